"""A server whose disk fills up: run under `unshare -Urm`, prints a JSON object per level of free space.

    unshare -Urm python -m tests.server.full_disk FOLDER LEVELS

FOLDER becomes a small file system of its own. Levels are spread evenly in the logarithm between none and
1 MiB free. At each, a file is uploaded and attached, a question is answered and a store searched; then the
space comes back and all of it must work in the same process.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import httpx
from click.testing import CliRunner

from indexer.commands.ingest import ingest

SIZE_MIB = 48
BLOCK = 4096
MOST_BLOCKS = 256
QUESTION = {"model": "echo", "messages": [{"role": "user", "content": "When does iron melt?"}]}


def main(folder: Path, levels: int) -> None:
    options = f"size={SIZE_MIB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    data = folder / "data"
    rows = folder / "facts.jsonl"
    rows.write_text(json.dumps({"id": "iron", "text": "Iron melts at 1538 degrees Celsius."}) + "\n")
    made = ["--store", "facts", "--data", str(data), "--embedder", "hash"]
    done = CliRunner().invoke(ingest, [str(rows), *made])
    assert done.exit_code == 0, done.output
    environment = {
        **os.environ,
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_RETRIEVAL_DEVICE": "cpu",
    }
    command = [sys.executable, "-m", "server.cli", "serve", "--echo", "--port", "0"]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    found = re.search(r"http://\S+/v1", server.stderr.readline())
    assert found is not None
    try:
        with httpx.Client(base_url=found[0], timeout=60) as http:
            base = found[0].removesuffix("/v1")
            while http.get(f"{base}/ready").status_code != 200:
                time.sleep(0.05)
            for level in range(levels):
                free = 0 if not level else round(MOST_BLOCKS ** (level / max(1, levels - 1)))
                filler = _fill(folder, free * BLOCK)
                full = _use(http)
                filler.unlink()
                click.echo(json.dumps({"free": free * BLOCK, "full": full, "after": _use(http)}))
            assert server.poll() is None
    finally:
        server.terminate()
        said = server.communicate(timeout=60)[1]
    click.echo(json.dumps({"exit": server.returncode, "log": said}))


def _fill(folder: Path, free: int) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        while True:
            left = os.statvfs(folder)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_frsize - free))
                break
            except OSError:  # what was attached is still being read, and took some
                time.sleep(0.05)
    return filler


def _use(http: httpx.Client) -> dict[str, int]:
    """The statuses of one round."""
    content = os.urandom(30_000).hex().encode()
    uploaded = http.post("/files", files={"file": ("a.txt", content)}, data={"purpose": "assistants"})
    said = {"upload": uploaded.status_code}
    made = http.post("/vector_stores", json={"name": f"s{time.monotonic_ns()}"})
    said["store"] = made.status_code
    if uploaded.status_code == 200 and made.status_code == 200:
        attached = http.post(
            f"/vector_stores/{made.json()['id']}/files", json={"file_id": uploaded.json()["id"]}
        )
        said["attach"] = attached.status_code
    if uploaded.status_code == 200:
        said["delete"] = http.delete(f"/files/{uploaded.json()['id']}").status_code
    said["chat"] = http.post("/chat/completions", json=QUESTION).status_code
    said["search"] = http.post("/vector_stores/facts/search", json={"query": "iron"}).status_code
    return said


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
