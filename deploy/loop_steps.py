"""What the steps of `make loop` are made of: commands of ours, shown as they work, and a server."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from server.reaching import LISTENS, START_SECONDS, drain, wait_until_ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    work: Path
    env: Mapping[str, str]
    users: int
    epochs: float
    max_tokens: int
    window_seconds: float
    anyway: bool
    seconds: float  # that an answer may take


def fewshot(walk: Walk, *arguments: str, may_fail: bool = False, show: bool = True) -> str:
    """One command of ours, shown; what it printed. Ends the walk when it fails, unless it may: then ""."""
    say(f"$ fewshot {' '.join(word if ' ' not in word else repr(word) for word in arguments)}")
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", *arguments],
        env=dict(walk.env), stdout=subprocess.PIPE, stderr=None, text=True, check=False,
    )  # fmt: skip
    if show and done.stdout:
        say(done.stdout.rstrip())
    if done.returncode and not may_fail:
        raise click.ClickException(f"`fewshot {arguments[0]} {arguments[1]}` failed; the walk stops here")
    return "" if done.returncode else done.stdout


@contextmanager
def serving(walk: Walk, echo: bool) -> Iterator[str]:
    """The address of a server that is ready; it stops when the walk ends."""
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0", *(["--echo"] if echo else [])]
    say("$ fewshot serve   (with room for one LoRA and a soft prompt of 32 tokens)")
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(walk.env))
    assert server.stderr is not None
    reader = None
    try:
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := LISTENS.search(line):
                break
        else:
            raise click.ClickException("the server did not start:\n" + "".join(lines[-5:]))
        reader = drain(server)
        if not wait_until_ready(found[1], seconds=6 * START_SECONDS, child=server):
            raise click.ClickException("the engine did not start; `fewshot serve` shows why")
        yield found[1]
    finally:
        server.terminate()
        server.wait(60)
        if reader is not None:
            reader.join()
        server.stderr.close()


def step(title: str) -> None:
    say(f"\n== {title}")


def say(line: str) -> None:
    click.echo(line)
