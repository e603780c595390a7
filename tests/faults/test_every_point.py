"""Every call with which a program changes its data folder: killed there, failed there, the power cut there.

`python -m tests.faults.points FOLDER PROGRAM kill|fail|power 1 POINT` is one of them again.
"""

import json
import subprocess
import sys

import pytest

from tests.faults.programs import PROGRAMS
from tests.faults.tracer import HERE

HOW = ("kill", "fail", "power")
# Before every change: a few points of each, others than those that are nearest to the beginning or the end.
SOME = [("add", "kill", 67, 40), ("merge", "power", 160, 45), ("delete", "fail", 45, 30)]


def run(folder, program, how, *numbers):
    if not HERE:
        pytest.skip("calls are traced on Linux on x86-64 only")
    asked = [sys.executable, "-m", "tests.faults.points", str(folder), program, how, *map(str, numbers)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *wrong, total = map(json.loads, done.stdout.splitlines())
    assert not wrong, "\n".join(
        f"{one['point']} {one['call']} {one['path']}: {one['problem']}" for one in wrong
    )
    assert total["wrong"] == 0
    return total


@pytest.mark.parametrize(("program", "how", "every", "first"), SOME)
def test_what_is_left_at_some_points_is_before_or_after(tmp_path, program, how, every, first):
    assert run(tmp_path, program, how, every, first)["tried"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("program", list(PROGRAMS))
def test_what_is_left_at_every_point_is_before_or_after_and_once_more_completes_it(tmp_path, program, how):
    assert run(tmp_path, program, how)["tried"] > 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 6))
def test_whatever_part_of_what_was_not_synced_survives(tmp_path, seed):
    assert run(tmp_path, "merge", "power", 5, seed, seed)["tried"] > 20
