"""`fewshot experiment`: what runs, what it says, and the decisions about it."""

import getpass
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Engine

from indexer.database import open_database
from prompts.commands.experiment import report_on as report_on_file
from prompts.commands.experiment import report_options, selftest, show
from prompts.errors import PromptError
from server.deciding import promote as promote_arm
from server.deciding import report_on
from server.errors import ServerError
from server.evaluating import decision_object
from server.experiment_book import Decision, Logged
from server.experiment_log import ExperimentLog
from server.settings import Settings


class Commands(click.Group):
    """Shows what is refused as messages, with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (PromptError, ServerError) as refusal:
            raise click.ClickException(str(refusal)) from refusal


@click.group(cls=Commands)
def experiment() -> None:
    """Experiments on live traffic: what runs, what it says, promote, stop, roll back."""


experiment.add_command(selftest)


def decides(command: Callable[..., None]) -> Callable[..., None]:
    """--because and --json of the commands that change what is served."""
    command = click.option("--json", "as_json", is_flag=True, help="One JSON object.")(command)
    return click.option("--because", default="", help="Why; logged with the decision.")(command)


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """List the experiments that were started, and what is served by default."""
    _, log = _open(settings)
    book = log.read()
    if as_json:
        click.echo(json.dumps([_described(one) for one in book.experiments.values()], ensure_ascii=False))
        return
    for one in book.experiments.values():
        verdict = one.verdict.verdict if one.verdict else "no verdict yet"
        ramp = f"ramp {one.experiment.ramp:g}, phase {one.experiment.phase}"
        click.echo(
            f"{one.experiment.name:<24} {one.status:<9} {verdict:<15} {ramp}, since {_day(one.started)}"
        )
    running = book.running
    control = f"{running.experiment.name}/{running.experiment.control}, its control" if running else None
    click.echo(f"served by default: {book.default or control or 'requests as they come'}")


@experiment.command()
@click.argument("name")
@report_options
@click.pass_obj
def report(settings: Settings, name: str, as_json: bool, html: Path | None) -> None:
    """Judge the arms of NAME by the journal, or by a file of `fewshot export outcomes`."""
    made = report_on_file(Path(name)) if Path(name).is_file() else report_on(*_open(settings), name)
    show(made, as_json=as_json, html=html)


@experiment.command()
@click.argument("name")
@click.argument("arm")
@click.option("--force", is_flag=True, help="Against the verdict; needs --because.")
@decides
@click.pass_obj
def promote(settings: Settings, name: str, arm: str, because: str, force: bool, as_json: bool) -> None:
    """Serve ARM of NAME to everybody. Refused unless it has won, or is equivalent and you say why."""
    engine, log = _open(settings)
    _say(promote_arm(engine, log, name, arm, by=_me(), because=because, force=force), as_json)


@experiment.command()
@click.argument("name")
@decides
@click.pass_obj
def stop(settings: Settings, name: str, because: str, as_json: bool) -> None:
    """End NAME: everybody is served the default again, or its control where there was none."""
    if not because:
        raise click.UsageError("say why with --because: the reason is logged")
    _, log = _open(settings)
    _say(log.stop(name, by=_me(), reason=because), as_json)


@experiment.command()
@click.argument("name", required=False)
@decides
@click.pass_obj
def rollback(settings: Settings, name: str | None, because: str, as_json: bool) -> None:
    """Serve again what was served before the newest promotion (of NAME)."""
    _, log = _open(settings)
    _say(log.rollback(by=_me(), reason=because, name=name), as_json)


def _open(settings: Settings) -> tuple[Engine, ExperimentLog]:
    engine = open_database(settings.paths.data / "journal.db")
    return engine, ExperimentLog(engine)


def _say(made: Decision, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(decision_object(made), ensure_ascii=False))
        return
    click.echo(
        f"{made.action} of {made.experiment}: {made.after or 'requests as they come'} is served by default "
        f"(before: {made.before or 'requests as they come'}); servers follow within 5 seconds"
    )


def _described(one: Logged) -> dict[str, Any]:
    return {
        "name": one.experiment.name,
        "status": one.status,
        "verdict": one.verdict.verdict if one.verdict else None,
        "ramp": one.experiment.ramp,
        "phase": one.experiment.phase,
        "started_at": one.started,
        "arms": [{"name": arm.name, "weight": arm.weight} for arm in one.experiment.arms],
        "decisions": [decision_object(made) for made in one.decisions],
    }


def _me() -> str:
    return getpass.getuser()


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
