"""What the commands of this room share: where models lie, what is said on standard error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from training.loop import Progress


def progress(now: Progress) -> str:
    return (
        f"step {now.step:,}/{now.steps:,}  loss {now.loss:.4f}  validation {now.valid:.4f}  "
        f"{now.seconds_left:.0f} s left"
    )


def models_of(settings: Any) -> Path:
    """Where fetched models lie: as the command's settings say, or as they do by default."""
    return (settings.paths.cache if settings is not None else Path.home() / ".cache/fewshot") / "models"


def resolve(context: click.Context, options: dict[str, Any]) -> None:
    """Base and folder of adapters as the settings say, where the options do not."""
    if options["base"] is None:
        if context.obj is None:
            raise click.UsageError("name the base model with --base")
        options["base"] = context.obj.engine.model
    if options["out"] is None:
        if context.obj is None:
            raise click.UsageError("name the folder of adapters with --out")
        options["out"] = context.obj.paths.data / "adapters"


def say(line: str) -> None:
    click.echo(line, err=True)
