"""How deploy/gpu/shared.sh ends what it started, with a daemon that only writes down what it is told.

With the real one, on a card: tests/gpu/test_shared_card.py.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "deploy" / "gpu" / "shared.sh"
DAEMON = """#!/bin/sh
[ "$1" = -d ] && { echo "began in $CUDA_MPS_PIPE_DIRECTORY" >>"$TOLD"; exit "${BEGINS:-0}"; }
cat >>"$TOLD"
"""


@pytest.fixture
def environment(tmp_path):
    daemon = tmp_path / "bin" / "nvidia-cuda-mps-control"
    daemon.parent.mkdir()
    daemon.write_text(DAEMON)
    daemon.chmod(0o755)
    path = f"{daemon.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TOLD": str(tmp_path / "told"), "TMPDIR": str(tmp_path)}


def told(environment) -> list[str]:
    return Path(environment["TOLD"]).read_text().split("\n")


def run(environment, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(SCRIPT), *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_command_has_the_daemon_and_its_status_is_told(environment, tmp_path):
    done = run(environment, "sh", "-c", 'echo "$CUDA_MPS_PIPE_DIRECTORY $1"; exit 7', "sh", "a b")
    assert done.returncode == 7
    folder, _, given = done.stdout.strip().partition(" ")
    assert given == "a b"
    assert told(environment)[:2] == [f"began in {folder}", "quit"]
    assert not Path(folder).exists()
    assert Path(folder).parent == tmp_path


@pytest.mark.parametrize(
    ("asked", "counted"), [("3", "0"), ("5,2,7", "0,1,2"), ("GPU-8f2", "GPU-8f2"), ("", "")]
)
def test_cards_are_counted_among_those_the_daemon_has(environment, asked, counted):
    done = run({**environment, "CUDA_VISIBLE_DEVICES": asked}, "sh", "-c", 'echo "$CUDA_VISIBLE_DEVICES"')
    assert done.stdout == f"{counted}\n"


def test_a_signal_reaches_the_command_which_ends_in_its_own_time(environment):
    drains = "trap 'echo drained; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    command = [str(SCRIPT), shutil.which("bash") or "bash", "-c", drains]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "drained\n"
        assert running.wait(10) == 3
    assert "quit" in told(environment)


def test_what_is_missing_is_named(environment):
    assert run(environment).returncode == 64
    failed = run({**environment, "BEGINS": "1"}, "true")
    assert failed.returncode == 71
    assert "control.log" in failed.stderr
    missing = run({**environment, "PATH": "/usr/bin:/bin"}, "true")
    assert missing.returncode == 127
    assert "NVIDIA's driver" in missing.stderr
