"""kill -9 at random moments of everything users do to documents; and the judge of it sees what is wrong."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.lives import Act, after, wrong

HELD = {"row:a/pond/pond-0": "old", "row:a/pond/pond-1": "same", "upload:file-1": "kept"}
REPLACE = Act("ingest", "a", "pond", (("pond-0", "new"), ("pond-1", "same"), ("pond-2", "more")))


@pytest.fixture
def memory():
    """A folder that costs no disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def run(folder, times):
    asked = [sys.executable, "-m", "tests.faults.random_kills", str(folder), str(times)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    "times", [4, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)
def test_nothing_acknowledged_is_lost_and_nothing_is_there_that_nobody_sent(memory, times):
    code, total = run(memory, times)
    assert (code, total["wrong"], total["kills"]) == (0, [], times)
    assert run(memory, times) == (0, total), "a run that is over does nothing more"


def test_half_an_ingest_is_whole_documents_of_before_or_after():
    assert wrong(HELD, REPLACE, 0, HELD) == wrong(HELD, REPLACE, 2, after(HELD, REPLACE)) == []
    assert wrong(HELD, REPLACE, 1, HELD | {"row:a/pond/pond-0": "new"}) == []
    assert wrong(HELD, REPLACE, 2, HELD | {"row:a/pond/pond-0": "new"}) != []


@pytest.mark.parametrize(
    "seen",
    [
        {key: text for key, text in HELD.items() if key != "upload:file-1"},  # lost
        HELD | {"row:a/pond/pond-9": "nobody's"},  # a phantom
        HELD | {"row:a/pond/pond-1": "half of"},
    ],
)
def test_a_loss_a_phantom_and_a_half_are_seen(seen):
    for act in (None, REPLACE, Act("delete", "a", "pond"), Act("purge")):
        assert wrong(HELD, act, 0, seen) != []


def test_a_delete_happens_at_once_or_not_at_all():
    delete = Act("delete", "a", "pond")
    half = {key: text for key, text in HELD.items() if key != "row:a/pond/pond-0"}
    assert wrong(HELD, delete, 0, HELD) == wrong(HELD, delete, 0, {"upload:file-1": "kept"}) == []
    assert wrong(HELD, delete, 0, half) != []
