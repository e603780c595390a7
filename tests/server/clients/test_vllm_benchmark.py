"""vLLM's serving benchmark as a client: every request succeeds, and its counts are ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.settings import Settings
from tests.environments import ROOT

SCRIPT = Path(__file__).parent / "vllm_benchmark.py"
PROMPTS, INPUT, OUTPUT = 40, 32, 24
ROUTES = {"openai": "/v1/completions", "openai-chat": "/v1/chat/completions"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def benchmark(url: str, key: str, folder: Path, backend: str, *options: str) -> dict:
    """The program's own result file."""
    tokenizer = Settings().paths.cache / "models" / "smollm2-135m-instruct"
    assert tokenizer.is_dir(), "run `fewshot models fetch`"
    command = [
        *(sys.executable, str(SCRIPT), "--backend", backend, "--base-url", url),
        *("--endpoint", ROUTES[backend], "--model", "echo", "--tokenizer", str(tokenizer)),
        *("--dataset-name", "random", "--num-prompts", str(PROMPTS), "--seed", "7"),
        *("--random-input-len", str(INPUT), "--random-output-len", str(OUTPUT)),
        *("--save-result", "--save-detailed", "--result-dir", str(folder), "--result-filename", "r.json"),
        *options,
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "OPENAI_API_KEY": key, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return json.loads((folder / "r.json").read_text())


@pytest.mark.parametrize("options", [(), ("--ignore-eos",)], ids=["defaults", "ignore-eos"])
@pytest.mark.parametrize("backend", ROUTES)
def test_no_request_fails_and_the_counts_are_ours(echo, tmp_path, backend, options):
    result = benchmark(echo.url, echo.key, tmp_path, backend, *options)
    assert (result["completed"], result["failed"]) == (PROMPTS, 0), result["errors"]
    texts = result["generated_texts"]
    assert sum(map(len, texts)) == result["total_output_tokens"]  # an echo's tokens are its characters
    if options:
        assert set(result["output_lens"]) == {OUTPUT}
