"""Engine processes end with their owner, also with one that was killed."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points

import httpx
import psutil
import pytest

import server.orphan

CHILD = "import server.orphan, time; server.orphan.watch(); print('on', flush=True); time.sleep(60)"
OWNER = f"""
import os, subprocess, sys, time
os.environ["{server.orphan.OWNER}"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def gone(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            # A container may have nobody who reaps orphans.
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_process_ends_when_its_owner_is_killed():
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        child = int(owner.stdout.readline())
        assert not gone(child, 0.5)
        owner.send_signal(signal.SIGKILL)
    assert gone(child, 30)


def test_an_owner_that_is_gone_already_is_noticed():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as owner:
        owner.wait()
    told = {**os.environ, server.orphan.OWNER: str(owner.pid)}
    done = subprocess.run([sys.executable, "-c", CHILD], env=told, capture_output=True, timeout=50)
    assert done.returncode == -signal.SIGKILL


def test_without_an_owner_and_in_the_owner_itself_nothing_is_watched():
    code = "import server.orphan, threading; server.orphan.watch(); print(threading.active_count())"
    for told in ({}, {server.orphan.OWNER: "not a number"}):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | told, capture_output=True, text=True, timeout=50
        )
        assert done.stdout == "1\n", done.stderr


def test_the_engine_is_told():
    (ours,) = [one for one in entry_points(group="vllm.general_plugins") if one.name == "fewshot"]
    assert ours.load() is server.orphan.watch


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["starting", "ready"])
def test_a_killed_server_leaves_no_engine_behind(tmp_path, when):
    env = {**os.environ, "FEWSHOT_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    log = tmp_path / "log"
    with log.open("w") as stderr, subprocess.Popen(command, env=env, stderr=stderr) as running:
        try:
            deadline = time.monotonic() + 300
            engines = []
            while not engines or (when == "ready" and not ready(log.read_text())):
                assert running.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
                engines = engines_of(running.pid)
        finally:
            running.send_signal(signal.SIGKILL)
    assert all(gone(one.pid, 60) for one in engines)


def engines_of(pid):
    return [one for one in psutil.Process(pid).children(recursive=True) if "VLLM" in said_by(one)]


def said_by(process):
    """Its name and command line; nothing of one that ends in this moment."""
    try:
        return f"{process.name()} {' '.join(process.cmdline())}"
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def ready(said):
    found = re.search(r"http://[^/\s]+", said)
    return found is not None and httpx.get(f"{found[0]}/ready").status_code == 200
