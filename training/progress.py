"""What the commands say while they work, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.loop import Progress


def progress(now: Progress) -> str:
    return (
        f"step {now.step:,}/{now.steps:,}  loss {now.loss:.4f}  validation {now.valid:.4f}  "
        f"{now.seconds_left:.0f} s left"
    )


def say(line: str) -> None:
    click.echo(line, err=True)
