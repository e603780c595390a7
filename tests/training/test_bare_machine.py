"""`python -m training` runs on a GPU machine, which has nothing of the server."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.test_icl import BLOCKED
from tests.training.test_reward import comparisons


def test_a_reward_model_is_trained_where_there_is_no_server(bases, tmp_path):
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {(*BLOCKED, 'trl', 'datasets', 'pydantic_settings')}:\n"
        "            raise ImportError(f'{name} is not here')\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    root = Path(__file__).parents[2]
    where = {"PYTHONPATH": f"{tmp_path / 'blocked'}:{root}", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "training", "reward", "--data", str(comparisons(tmp_path, 40))),
            *("--name", "taste", "--base", str(bases["decoder"]), "--out", str(tmp_path / "out")),
            *("--epochs", "1", "--device", "cpu", "--json"),
        ],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | where,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reference"].startswith("taste@")
