"""`fewshot evaluate labels|answers DATA`: arms over a data set, through the running server."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from prompts.calibrator import write as write_calibrator
from prompts.errors import CalibratorInvalid
from server.measuring.arms import ANSWERS, LABELS, Arm, ArmRefused, read_arms
from server.measuring.asking import AskingFailed, Heard, Tell, ask_answers, ask_labels
from server.measuring.items import DataRefused, Item, digest, read_items
from server.measuring.judging import Judged, compared, judge_answers, judge_labels
from server.measuring.telling import against, lines_of, named
from server.reaching import checked, server_for
from server.settings import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Ask = Callable[[httpx.AsyncClient, Arm, Sequence[Item], Tell], Coroutine[Any, Any, Heard]]
F = TypeVar("F", bound=Callable[..., Any])


def common_options(command: F) -> F:
    """What both commands take."""
    for option in reversed(
        (
            click.argument("data", type=FILE),
            click.option(
                "--arm", "arms", multiple=True, help="NAME: KEY=VALUE …; repeatable, first: the base."
            ),
            click.option("--template", help="Template of every arm, name or name@version."),
            click.option("--model", help="Model or alias of every arm; default: the server's first."),
            click.option("--demos", type=click.IntRange(0, 32), help="Worked examples of every arm."),
            click.option(
                "--items", type=click.IntRange(min=1), help="This many, drawn once; all by default."
            ),
            click.option(
                "--url", help="Base URL of the server; default: as in the settings, or one is started."
            ),
            click.option(
                "--key", envvar="FEWSHOT_API_KEY", default="none", help="API key (FEWSHOT_API_KEY)."
            ),
            click.option(
                "--save", type=click.Path(dir_okay=False, path_type=Path), help="JSONL: what was said."
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        )
    ):
        command = option(command)
    return command


@click.group()
def evaluate() -> None:
    """Run arms over a data set: how good, how sure, how dear, and which is better."""


@evaluate.command()
@common_options
@click.option("--scoring", type=click.Choice(["first_token", "sequence"]), help="Of every arm.")
@click.option("--calibrate", type=click.Choice(["none", "content_free", "batch"]), help="Of every arm.")
@click.option(
    "--write", type=click.Path(file_okay=False, path_type=Path), help="Keep each arm's calibrator here."
)
@click.pass_obj
def labels(
    settings: Settings,
    /,
    data: Path,
    arms: tuple[str, ...],
    items: int | None,
    url: str | None,
    key: str,
    save: Path | None,
    as_json: bool,
    write: Path | None,
    **wishes: Any,
) -> None:
    """Label the texts of DATA and compare with the labels they should get.

    DATA is JSON lines with `text` (or `question`, `input`) and `label_name` (or `label`), a label's id of the
    template. An arm's wishes: model, template, demos, scoring, calibrate. Batch calibration is over all
    items. A calibrator is fitted on these items' labels: evaluate it on others. Exit code 1 when an item
    failed.
    """
    chosen, there, name = _read(data, "labels", items, arms, LABELS, wishes)
    if lacking := [arm.name for arm in chosen if "template" not in arm.wishes]:
        raise click.UsageError(f"arm {', '.join(lacking)} has no template: name one with --template")
    heard = _run(settings, url, key, chosen, there, ask_labels)
    try:
        judged = [judge_labels(arm, one, there) for arm, one in zip(chosen, heard, strict=True)]
    except CalibratorInvalid as problem:
        raise click.ClickException(str(problem)) from None
    written = {}
    for arm, one in zip(chosen, judged, strict=True):
        if write is not None and one.calibrator is not None:
            written[arm.name] = str(write_calibrator(one.calibrator, write))
    _end(name, chosen, there, heard, judged, save, as_json, written)


@evaluate.command()
@common_options
@click.option("--store", "stores", multiple=True, help="Store to search, of every arm; repeatable.")
@click.option("--top", type=click.IntRange(1, 50), help="How many chunks, of every arm.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Of every arm.")
@click.option("--at-once", type=click.IntRange(1), default=8, show_default=True, help="Requests at a time.")
@click.pass_obj
def answers(
    settings: Settings,
    /,
    data: Path,
    arms: tuple[str, ...],
    items: int | None,
    url: str | None,
    key: str,
    save: Path | None,
    as_json: bool,
    at_once: int,
    stores: tuple[str, ...],
    **wishes: Any,
) -> None:
    """Answer the questions of DATA and compare with the answers they should get.

    DATA is JSON lines with `question` (or `text`, `input`) and `answers` (or `answer`, `reference`,
    `output`); `sources` (or `doc_ids`) name the documents that a citation may rightly point to, by file id,
    file name, external id or title. An arm's wishes: model, template, demos, stores=A,B, top, max_tokens,
    temperature, seed, when_empty. Greedy unless an arm says otherwise. Exit code 1 when an item failed.
    """
    if stores:
        wishes["stores"] = list(stores)
    chosen, there, name = _read(data, "answers", items, arms, ANSWERS, wishes)

    async def ask(client: httpx.AsyncClient, arm: Arm, some: Sequence[Item], tell: Tell) -> Heard:
        return await ask_answers(client, arm, some, tell, at_once)

    heard = _run(settings, url, key, chosen, there, ask)
    judged = [judge_answers(one, there) for one in heard]
    _end(name, chosen, there, heard, judged, save, as_json, {})


def _read(
    data: Path,
    kind: str,
    most: int | None,
    specs: Sequence[str],
    known: Mapping[str, Callable[[str], Any]],
    wishes: Mapping[str, Any],
) -> tuple[list[Arm], list[Item], str]:
    given = {name: value for name, value in wishes.items() if value is not None}
    try:
        return read_arms(specs, known, given), read_items(data, kind, most), data.name
    except (ArmRefused, DataRefused) as problem:
        raise click.ClickException(str(problem)) from None


def _run(
    settings: Settings, url: str | None, key: str, arms: Sequence[Arm], items: Sequence[Item], ask: Ask
) -> list[Heard]:
    """Every arm in turn, so that none has to share the server with another."""

    async def every(base: str) -> list[Heard]:
        heard = []
        limits = httpx.Timeout(settings.server.deadline_seconds + 30)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=limits) as client:
            first = checked(await client.get("/v1/models"))["data"][0]["id"]
            for arm in arms:
                told = Arm(arm.name, {"model": first, **arm.wishes})
                heard.append(await ask(client, told, items, _teller(arm.name, len(items))))
        return heard

    with server_for(settings, url) as base:
        try:
            return asyncio.run(every(base))
        except AskingFailed as problem:
            raise click.ClickException(str(problem)) from None
        except httpx.HTTPError as problem:
            raise click.ClickException(f"the server stopped answering: {type(problem).__name__}") from None


def _teller(name: str, items: int) -> Tell:
    """A line that moves on a terminal; elsewhere one at the end."""

    def tell(done: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{name}: {done} of {items}", nl=done == items, err=True)
        elif done == items:
            click.echo(f"{name}: {done} items", err=True)

    return tell


def _end(
    name: str,
    arms: Sequence[Arm],
    items: Sequence[Item],
    heard: Sequence[Heard],
    judged: Sequence[Judged],
    save: Path | None,
    as_json: bool,
    written: Mapping[str, str],
) -> None:
    names = [arm.name for arm in arms]
    rows = compared(names, judged)
    if save is not None:
        _save(save, names, items, heard, judged)
    if as_json:
        report = {
            "data": name,
            "items": len(items),
            "digest": digest(list(items)),
            "arms": [
                {
                    "arm": arm.name,
                    "wishes": dict(arm.wishes),
                    "template": one.template,
                    **named(result.figures),
                }
                for arm, one, result in zip(arms, heard, judged, strict=True)
            ],
            "against_first": [named(row) for row in rows],
            "calibrators": dict(written),
        }
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(f"{name}: {len(items)} items")
        for arm_name, result in zip(names, judged, strict=True):
            click.echo(
                f"\n{arm_name}\n" + "\n".join(f"  {line}" for line in lines_of(result.figures, len(items)))
            )
        for row in rows:
            click.echo(
                f"\n{row['arm']} − {row['against']}\n" + "\n".join(f"  {line}" for line in against(row))
            )
        for arm_name, path in written.items():
            click.echo(f"\ncalibrator of {arm_name}: {path}")
    raise SystemExit(1 if any(result.figures["failed"] for result in judged) else 0)


def _save(
    path: Path, names: Sequence[str], items: Sequence[Item], heard: Sequence[Heard], judged: Sequence[Judged]
) -> None:
    with path.open("w", encoding="utf-8") as out:
        for name, one, result in zip(names, heard, judged, strict=True):
            for item, said, right in zip(items, one.said, result.right, strict=True):
                row = {
                    "arm": name,
                    "id": item.id,
                    "said": said.text,
                    "label": said.label,
                    "right": bool(right),
                }
                row |= {"failed": said.failed} if said.failed else {}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
