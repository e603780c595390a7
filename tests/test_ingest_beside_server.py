"""The server answers while hostile documents are being read. FEWSHOT_TEST_DATA names the folder of packs."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import httpx
import pytest

from tests.server.test_serving import environ, serving

pytestmark = pytest.mark.slow
LONGEST_SECONDS = 2.0  # for an answer, on two busy cores


def test_answers_come_while_hostile_files_are_read(tmp_path):
    given = os.environ.get("FEWSHOT_TEST_DATA")
    if not given:
        pytest.skip("FEWSHOT_TEST_DATA is not set")
    folder = Path(given, "e-documents")
    if not folder.exists():
        with tarfile.open(Path(given, "e-documents.tar.xz")) as archive:
            archive.extractall(tmp_path, filter="data")
        folder = tmp_path / "e-documents"
    data = tmp_path / "data"
    command = [
        sys.executable,
        "-m",
        "server.cli",
        "ingest",
        str(folder / "dev" / "hostile"),
        "--store",
        "hostile",
    ]
    with serving(data) as (_, url):
        ingesting = subprocess.Popen(command, env=environ(data), stderr=subprocess.PIPE, text=True)
        slowest, answers = 0.0, 0
        while ingesting.poll() is None:
            began = time.perf_counter()
            body = {"model": "echo", "messages": [{"role": "user", "content": "still there?"}]}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
            assert answer.json()["choices"][0]["message"]["content"] == "still there?"
            slowest = max(slowest, time.perf_counter() - began)
            answers += 1
            time.sleep(0.05)
        assert ingesting.stderr is not None
        said = ingesting.stderr.read()
        ingesting.stderr.close()
        assert httpx.get(f"{url}/ready").status_code == 200
    assert ingesting.returncode == 1  # some could not be read, and that is said
    for file in sorted((folder / "dev" / "hostile").iterdir()):
        assert file.name in said
    assert answers > 20
    assert slowest < LONGEST_SECONDS
