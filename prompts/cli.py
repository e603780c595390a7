"""`fewshot prompts`: look at the wording, try it, check it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

from prompts.errors import PromptError, TemplateInvalid
from prompts.fields import Fields
from prompts.lint import findings, rendered
from prompts.records import Example, Prompt, Template
from prompts.sections import example as read_example
from prompts.shallow import POOLINGS, write_embedder
from prompts.templates import SHIPPED, Library
from prompts.templates import lock as lock_folder

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Commands(click.Group):
    """Shows this room's errors as messages, with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except PromptError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands)
def prompts() -> None:
    """Templates: list them, show what they send, check them."""


@prompts.command("list")
@click.option("--folder", type=FOLDER, multiple=True, help="A folder of your own templates; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def list_(folder: tuple[Path, ...], as_json: bool) -> None:
    """List every template and version."""
    rows = [
        {
            "name": template.reference,
            "task": template.task,
            "about": template.about,
            "digest": template.digest,
        }
        for template in Library.load(*folder)
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        click.echo(f"{row['name']:<22} {row['task']:<9} {row['about']}")


@prompts.command()
@click.argument("name")
@click.option("--folder", type=FOLDER, multiple=True, help="A folder of your own templates; repeatable.")
@click.option("--with", "values", type=FILE, help="JSON: question, slots, sources, demos, history.")
@click.option(
    "--example", type=click.IntRange(min=1), help="Render the template's own example of this number."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(
    name: str, folder: tuple[Path, ...], values: Path | None, example: int | None, as_json: bool
) -> None:
    """Show NAME or NAME@VERSION: its wording, or the messages it makes of values."""
    template = Library.load(*folder).get(name)
    chosen = _values(values) if values else _example(template, example) if example else None
    if chosen is None:
        click.echo(_json(template) if as_json else _wording(template))
    else:
        prompt = rendered(template, chosen)
        click.echo(_json(prompt) if as_json else _messages(template, prompt))


@prompts.command()
@click.argument("folder", type=FOLDER, default=SHIPPED)
def lint(folder: Path) -> None:
    """Check every template, demonstration file and experiment below FOLDER; exit code 1 on a problem."""
    found = findings(folder)
    for where, problem in found:
        click.echo(f"{where}: {problem}")
    click.echo(f"{len(found)} problem{'' if len(found) == 1 else 's'} in {folder}")
    sys.exit(1 if found else 0)


@prompts.command()
@click.argument("folder", type=FOLDER, default=SHIPPED)
def lock(folder: Path) -> None:
    """Lock the versions in FOLDER that are final: from then on their wording cannot change."""
    added = lock_folder(folder)
    click.echo(f"locked {', '.join(added)}" if added else "every version is locked already")


@prompts.command()
@click.argument("model", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--layers", type=click.IntRange(min=1), required=True, help="How many, from the input on.")
def embedder(model: Path, out: Path, layers: int) -> None:
    """Write the first layers of the decoder in the folder MODEL to OUT: an embedder for worked examples."""
    write_embedder(model, out, layers)
    click.echo(f"{out}: name it in demos.embedder, with demos.poolings = {POOLINGS}")


def _values(path: Path) -> Example:
    problems: list[str] = []
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise click.ClickException(f"{path} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise click.ClickException(f"{path} must hold one JSON object")
    example = read_example(Fields(table, "", problems))
    if problems:
        raise TemplateInvalid(str(path), problems)
    return example


def _example(template: Template, number: int) -> Example:
    if number > len(template.examples):
        raise click.ClickException(f"{template.reference} has {len(template.examples)} examples")
    return template.examples[number - 1]


def _wording(template: Template) -> str:
    parts = [f"--- {part}\n{wording}" for part, wording in template.parts.items()]
    return "\n".join([f"{template.reference} ({template.task}) {template.about}", template.digest, *parts])


def _messages(template: Template, prompt: Prompt) -> str:
    lines = [f"--- {message.role}\n{message.text}" for message in prompt.messages]
    return "\n".join([template.reference, *lines])


def _json(record: Template | Prompt) -> str:
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False)
