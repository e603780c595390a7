"""Under deploy/gpu/shared.sh a card goes on searching when the engine's process beside it is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from indexer.vectors.cuda import cards

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cards(), reason="no card that FAISS can use")]

SCRIPT = Path(__file__).parents[2] / "deploy" / "gpu" / "shared.sh"
BUSY = """
import torch
rows = torch.randn(4096, 4096, device="cuda")
print("up", flush=True)
while True:
    rows = (rows @ rows).clamp(-1, 1)
    torch.cuda.synchronize()
"""
SEARCHING = """
import subprocess, sys
import numpy as np
from indexer.vectors.choice import Choice
from indexer.vectors.cuda import CudaEngine

rows = np.random.default_rng(1).normal(size=(100_000, 64)).astype(np.float32)
beside = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
assert beside.stdout.readline() == "up\\n"
engine = CudaEngine()
index = engine.place(rows, Choice("flat", "float16", {}, ""))
before = engine.search(index, rows[:5], 10, 0).positions
beside.kill()
beside.wait()
for _ in range(20):
    assert np.array_equal(engine.search(index, rows[:5], 10, 0).positions, before)
again = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
assert again.stdout.readline() == "up\\n"
assert np.array_equal(engine.search(index, rows[:5], 10, 0).positions, before)
again.kill()
print("searched on")
"""


def test_an_engine_that_is_killed_takes_neither_the_search_nor_its_successor_along():
    done = subprocess.run(
        [str(SCRIPT), sys.executable, "-c", SEARCHING, BUSY],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.endswith("searched on\n"), done.stderr[-2000:]
    assert done.returncode == 0
