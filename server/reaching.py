"""The server that a command asks: the one that runs, or one that is started for it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import httpx

from server.settings import Settings

START_SECONDS = 300.0
LISTENS = re.compile(r"listens on (http://\S+)/v1")


@contextmanager
def server_for(settings: Settings, url: str | None) -> Iterator[str]:
    """The address of a ready server: the one named, the settings' one, or one started for the question."""
    base = (url or f"http://{settings.server.host}:{settings.server.port}").rstrip("/").removesuffix("/v1")
    if wait_until_ready(base, seconds=0.0 if url is None else 10.0):
        yield base
        return
    if url is not None:
        raise click.ClickException(f"no server answers at {base}; start one with `fewshot serve`")
    click.echo("No server is running; starting one for this question …", err=True)
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    reader = None
    try:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line.rstrip())
            if found := LISTENS.search(line):
                break
        else:
            raise click.ClickException("the server did not start:\n" + "\n".join(lines[-5:]))
        reader = drain(child)
        if not wait_until_ready(found.group(1), seconds=START_SECONDS, child=child):
            raise click.ClickException("the server did not become ready; `fewshot serve` shows why")
        yield found.group(1)
    finally:
        child.terminate()
        child.wait(60)
        if reader is not None:
            reader.join()
        if child.stderr is not None:
            child.stderr.close()


def drain(child: "subprocess.Popen[str]") -> threading.Thread:
    """Keep reading what the server says, so that it never blocks on a full pipe."""
    assert child.stderr is not None
    reader = threading.Thread(target=child.stderr.read, daemon=True)
    reader.start()
    return reader


def wait_until_ready(base: str, *, seconds: float, child: "subprocess.Popen[str] | None" = None) -> bool:
    """Whether the server at `base` became ready in time, and its process, if given, lived that long."""
    until = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{base}/ready", timeout=5.0).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        if time.monotonic() >= until or (child is not None and child.poll() is not None):
            return False
        time.sleep(0.25)


def checked(response: httpx.Response) -> dict[str, Any]:
    """The body of a 200. Raises ClickException with the server's own words."""
    try:
        body: dict[str, Any] = response.json()
    except ValueError:
        raise click.ClickException(f"the server answered {response.status_code} without JSON") from None
    if response.status_code != 200:
        raise click.ClickException(body.get("error", {}).get("message", f"status {response.status_code}"))
    return body
