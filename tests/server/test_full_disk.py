"""A real server on a file system without space: nothing is lost, nothing is a bug, and it recovers."""

import json
import subprocess
import sys

import pytest

LEVELS = [pytest.param(3), pytest.param(20, marks=pytest.mark.slow)]


def namespaces():
    return subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("levels", LEVELS)
def test_a_full_disk_refuses_what_must_be_kept_and_answers_what_only_reads(tmp_path, levels):
    if not namespaces():
        pytest.skip("a file system of one's own needs unprivileged user namespaces")
    command = ["unshare", "-Urm", sys.executable, "-m", "tests.server.full_disk", str(tmp_path), str(levels)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    *rounds, ended = map(json.loads, done.stdout.splitlines())
    assert len(rounds) == levels
    for one in rounds:
        assert set(one["full"].values()) <= {200, 507}, one
        assert one["full"]["chat"] == one["full"]["search"] == 200, one
        assert set(one["after"].values()) == {200}, one
    assert rounds[0]["full"]["upload"] == 507
    assert ended["exit"] == 0
    assert "bug while answering" not in ended["log"]
