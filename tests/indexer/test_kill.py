"""kill -9 at any moment: what was acknowledged stays, and the next run completes."""

import json
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from indexer.catalogue import Catalogue
from indexer.hash_embedder import HashEmbedder
from indexer.search import Searcher
from indexer.verification import findings

ROWS = 800
CODE = (
    "import indexer.ingest as i; i.BATCH_CHUNKS, i.BATCH_SECONDS = 50, 0; "
    "from indexer.commands.ingest import ingest; ingest()"
)


def start(corpus, data) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, str(corpus), "--store", "docs"]
    return subprocess.Popen(
        [*command, "--data", str(data), "--embedder", "hash"], stdout=subprocess.PIPE, text=True
    )


def acknowledged(output: str) -> int:
    return sum(int(many) for many in re.findall(r": (\d+) documents, \d+ chunks published", output))


def documents(data) -> int:
    catalogue = Catalogue(data)
    try:
        store = catalogue.store("docs")
        assert list(findings(catalogue, store)) == []
        return catalogue.counts(store).documents
    finally:
        catalogue.close()


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_killed_ingest_loses_nothing_it_acknowledged(folder, data, times):
    corpus = folder / "rows.jsonl"
    chance = random.Random(times)
    said = 0
    for turn in range(times):
        # A few rows change at each turn, so that replacing is interrupted too.
        rows = ({"id": str(n), "text": f"row {n} version {turn if n % 10 == 0 else 0}"} for n in range(ROWS))
        corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
        process = start(corpus, data)
        head = process.stdout.readline()  # it works now; before that there is nothing to lose
        time.sleep(chance.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        said = max(said, acknowledged(head + process.stdout.read()))
        process.stdout.close()
        process.wait()
        assert documents(data) >= said
    last = start(corpus, data)
    output, _ = last.communicate(timeout=120)
    assert last.returncode == 0, output
    assert documents(data) == ROWS
    searcher = Searcher(data, HashEmbedder())
    hit = searcher.search("row 70 version", ["docs"], mode="keyword", top=1).hits[0]
    assert hit.text == f"row 70 version {times - 1}"
    searcher.close()
