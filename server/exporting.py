"""`fewshot export`: the journal as JSONL, for reports, training and pools of worked examples."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import ColumnElement, Engine, select

from indexer.database import open_database
from prompts.errors import PromptError
from prompts.exports import Guards, Messages, Render, Row, as_sent, demos, held_out_inputs, pairs, sft
from prompts.layout import lay_out
from prompts.outcome_files import header
from prompts.records import Message, Template
from prompts.seams import count_words
from prompts.templates import Library
from server.errors import ServerError
from server.experiment_log import ExperimentLog
from server.logged_turns import logged_turns
from server.schema import exposures
from server.settings import Settings

VIEWS = ("outcomes", "sft", "pairs", "demos")
ROOM = 1_000_000  # words: nothing gives way in an export
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("view", type=click.Choice(VIEWS))
@click.option("--out", type=OUT, help="File to write; default: standard output.")
@click.option("--experiment", help="Only turns that count for this one; outcomes need it.")
@click.option("--tenant", help="Whose turns; needed where the journal has several.")
@click.option("--since", type=click.DateTime(), help="Only turns from then on (UTC).")
@click.option("--before", type=click.DateTime(), help="Only turns before (UTC): judge on what comes after.")
@click.option("--held-out", type=FILE, multiple=True, help="JSONL of items kept for judging; repeatable.")
@click.option("--most-per-unit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of a liked answer."
)
@click.option("--template", help="Render prompts by this template instead of as they were sent.")
@click.option("--split-salt", default="fewshot", show_default=True, help="Another salt splits units anew.")
@click.option("--review", type=OUT, help="demos: write what only one unit liked here.")
@click.pass_obj
def export(
    settings: Settings,
    view: str,
    out: Path | None,
    experiment: str | None,
    tenant: str | None,
    since: datetime | None,
    before: datetime | None,
    held_out: tuple[Path, ...],
    most_per_unit: int,
    threshold: float,
    template: str | None,
    split_salt: str,
    review: Path | None,
) -> None:
    """Write VIEW as JSONL: outcomes (for reports), sft and pairs (for training), demos (for pools).

    Rows without kept text, failed answers, callers who opted out (metadata training = no), held-out items,
    repeated rows and more than --most-per-unit rows of a unit are left out, and counted on standard error.
    """
    engine = open_database(settings.paths.data / "journal.db")
    try:
        wanted = list(_wanted(engine, experiment, tenant, since, before))
        guards = Guards(_held_out(held_out), most_per_unit, split_salt)
        waiting: list[dict[str, Any]] = []
        turns = _turns(engine, wanted)
        made: Iterable[dict[str, Any]]
        if view == "outcomes":
            made = _outcomes(engine, experiment, turns)
        elif view == "demos":
            made = demos(turns, guards, review=waiting)
        else:
            render = _render(settings, template)
            made = (
                sft(turns, guards, render=render, threshold=threshold)
                if view == "sft"
                else pairs(turns, guards, render=render)
            )
        tally = Tally()
        _write(out, tally.counting(made))
        if view == "demos" and review is not None:
            _write(review, waiting)
    except (PromptError, ServerError) as refusal:
        raise click.ClickException(str(refusal)) from refusal
    click.echo(f"{tally.said(view)}{f' to {out}' if out else ''}", err=True)
    for reason, number in guards.dropped.most_common():
        click.echo(f"  left out {number}: {reason}", err=True)
    if waiting:
        click.echo(
            f"  {len(waiting)} for review: liked by one unit alone" + (f", in {review}" if review else ""),
            err=True,
        )


class Tally:
    """Counts rows on their way out."""

    def __init__(self) -> None:
        self.rows = 0
        self.by_model = 0

    def counting(self, made: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in made:
            self.rows += row.get("kind") != "experiment"
            self.by_model += row.get("written_by") == "model"
            yield row

    def said(self, view: str) -> str:
        share = (
            f", {self.by_model / self.rows:.0%} of them written by the model"
            if view == "sft" and self.rows
            else ""
        )
        return f"{self.rows} {'turns' if view == 'outcomes' else 'rows'}{share}"


def _wanted(
    engine: Engine,
    experiment: str | None,
    tenant: str | None,
    since: datetime | None,
    before: datetime | None,
) -> Iterator[ColumnElement[bool]]:
    """Raises ClickException where turns of several tenants would mix."""
    with engine.connect() as connection:
        tenants = connection.execute(select(exposures.c.tenant).distinct()).scalars().all()
    if tenant is None and len(tenants) > 1:
        raise click.UsageError(
            f"the journal holds turns of {', '.join(sorted(tenants))}: name one with --tenant"
        )
    if tenant is not None:
        if tenant not in tenants:
            raise click.ClickException(
                f"no turns of a tenant {tenant!r}; there are {', '.join(sorted(tenants)) or 'none'}"
            )
        yield exposures.c.tenant == tenant
    if experiment is not None:
        yield exposures.c.experiment == experiment
    if since is not None:
        yield exposures.c.at >= since.replace(tzinfo=UTC).timestamp()
    if before is not None:
        yield exposures.c.at < before.replace(tzinfo=UTC).timestamp()


def _turns(engine: Engine, wanted: list[ColumnElement[bool]]) -> Iterator[Row]:
    ExperimentLog(engine)  # brings a journal of an older release up to date
    return logged_turns(engine, *wanted, recipe=True)


def _outcomes(engine: Engine, experiment: str | None, turns: Iterable[Row]) -> Iterator[dict[str, Any]]:
    if experiment is None:
        raise click.UsageError("outcomes are of one experiment: name it with --experiment")
    known = ExperimentLog(engine).read().get(experiment)
    yield header(known.experiment, known.text, known.phases, time.time())
    for turn in turns:
        yield dict(turn)


def _held_out(files: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for file in files:
        try:
            rows = [
                json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()
            ]
        except ValueError as problem:
            raise click.ClickException(f"{file} is not JSONL: {problem}") from problem
        inputs = held_out_inputs([row for row in rows if isinstance(row, dict)])
        if not inputs:
            raise click.ClickException(f"{file} holds no items with an input, question or text")
        found |= inputs
    return found


def _render(settings: Settings, reference: str | None) -> Render:
    if reference is None:
        return as_sent
    folder = settings.paths.templates
    template = Library.load(*([folder] if folder else [])).get(reference)
    return lambda row: rendered(template, row)


def rendered(template: Template, row: Row) -> Messages | None:
    """The turn's question under another wording; None where it leaned on sources, whose texts the journal has
    only as part of the prompt, or where its values do not fit the template.
    """
    if row.get("chunks"):
        return None
    asked = [Message(one["role"], one["text"]) for one in row["asked"]]
    system = [message.text for message in asked if message.role == "system"]
    talk = [message for message in asked if message.role != "system"]
    try:
        prompt = lay_out(
            template,
            question=talk[-1].text,
            history=tuple(talk[:-1]),
            variables=row.get("variables") or {},
            instructions="\n\n".join(system) or None,
            room=ROOM,
            count=count_words,
        )
    except PromptError:
        return None
    return [{"role": message.role, "content": message.text} for message in prompt.messages]


def _write(out: Path | None, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line; a file appears whole, and only its owner may read it."""
    if out is None:
        _lines(rows, sys.stdout.write)
        return
    handle, aside = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            _lines(rows, stream.write)
        os.replace(aside, out)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _lines(rows: Iterable[dict[str, Any]], write: Callable[[str], object]) -> None:
    for row in rows:
        write(json.dumps(row, ensure_ascii=False) + "\n")
