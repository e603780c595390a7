"""Servers as people start them: a process, a port, a log; ended by id when the block is left."""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.records import NotMeasured

START_SECONDS = 300.0
STOP_SECONDS = 60.0


class ServerFailed(NotMeasured):
    """A server did not come up; the message ends with what it said last."""


class Served(NamedTuple):
    """A server that answers."""

    pid: int
    port: int
    model: str


@contextmanager
def echo_server(
    *,
    reply: str,
    interval_seconds: float,
    running: int,
    checkout: Path | None = None,
    profile: Path | None = None,
) -> Iterator[Served]:
    """Arm A0e: `fewshot serve --echo`, journal and metrics on, over an empty data folder.

    `checkout` takes the code from another working tree; `profile` receives cProfile's statistics at the end.
    """
    python = [sys.executable, *(["-m", "cProfile", "-o", str(profile.absolute())] if profile else [])]
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as data:
        settings = {
            "FEWSHOT_DATA_DIR": data,
            "FEWSHOT_EMBEDDER": "hash",
            "FEWSHOT_SERVER_RUNNING": str(running),
            "FEWSHOT_ENGINE_ECHO_REPLY": reply,
            "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": str(interval_seconds),
        }
        with fewshot_server(settings, "--echo", python=python, checkout=checkout) as (pid, port):
            yield Served(pid, port, "echo")


@contextmanager
def fewshot_server(
    settings: Mapping[str, str],
    *options: str,
    python: Sequence[str] = (sys.executable,),
    checkout: Path | None = None,
    start_seconds: float = START_SECONDS,
) -> Iterator[tuple[int, int]]:
    """`fewshot serve` with its options on a free port, ready within `start_seconds`: its process id and port.

    `settings` are environment variables, FEWSHOT_DATA_DIR among them. Raises ServerFailed.
    """
    data = settings["FEWSHOT_DATA_DIR"]
    command = [*python, "-m", "server.cli", "serve", "--port", "0", *options]
    with process(command, {**os.environ, **settings}, Path(data, "server.log"), checkout) as (child, log):
        port = int(awaited(r"http://[^/\s]+:(\d+)/v1", child, log))
        _until_ready(f"http://127.0.0.1:{port}/ready", child, log, start_seconds)
        yield child.pid, port


@contextmanager
def process(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The command running, its output in `log`; told to end, and after a minute made to."""
    with log.open("w") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)
    try:
        yield child, log
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def python_process(arguments: Sequence[str], log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """This interpreter with the arguments, its output in `log`, unbuffered."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with process([sys.executable, *arguments], environment, log) as running:
        yield running


def awaited(pattern: str, child: "subprocess.Popen[bytes]", log: Path) -> str:
    """The first group of the pattern, once the log has it. Raises ServerFailed."""
    deadline = time.monotonic() + START_SECONDS
    while not (found := re.search(pattern, log.read_text(errors="replace"))):
        _still_alive(child, log, deadline)
    return found[1]


def _until_ready(
    url: str, child: "subprocess.Popen[bytes]", log: Path, seconds: float = START_SECONDS
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (OSError, urllib.error.HTTPError):
            _still_alive(child, log, deadline)


def _still_alive(child: "subprocess.Popen[bytes]", log: Path, deadline: float) -> None:
    if child.poll() is not None or time.monotonic() > deadline:
        raise ServerFailed(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
    time.sleep(0.1)
