"""`fewshot prompts pool`: worked examples as versions that do not change; here, for it needs an embedder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from indexer.devices import torch_names
from indexer.embedding import open_embedder
from indexer.errors import IndexerError
from prompts.cli import prompts
from prompts.errors import PoolInvalid
from prompts.pools import PER_UNIT, Built, build_pool, open_pool, read_manifest, versions
from prompts.seams import Embed
from prompts.vectors import evened
from server.settings import Settings

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
POOLS = click.option(
    "--pools",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of pools; default: paths.pools.",
)
QUESTION = ("input", "question", "text")
SHOWN = 10


@prompts.group()
def pool() -> None:
    """Pools of worked examples: build the next version, look into one."""


@pool.command()
@click.argument("file", type=FILE)
@click.option("--name", required=True, help="Lower-case words joined by hyphens.")
@POOLS
@click.option("--forbidden", type=FILE, multiple=True, help="JSONL of items kept for judging; repeatable.")
@click.option("--per-label", type=click.IntRange(min=1), help="At most this many of a label.")
@click.option("--per-unit", type=click.IntRange(min=1), default=PER_UNIT, show_default=True)
@click.option(
    "--review", type=click.Path(dir_okay=False, path_type=Path), help="JSONL: what was left out, why."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def build(
    settings: Settings,
    file: Path,
    name: str,
    pools: Path | None,
    forbidden: tuple[Path, ...],
    per_label: int | None,
    per_unit: int,
    review: Path | None,
    as_json: bool,
) -> None:
    """Build the next version of the pool NAME of the worked examples in FILE (JSON lines).

    Left out are duplicates, near duplicates, items kept for judging and what comes near them, examples that
    nearly say the same under another label (both: look at them), and more than a label's or a unit's share.
    Nothing is built when the newest version is exactly this.
    """
    folder = _folder(settings, pools)
    embed, digest = demo_embedder(settings)
    inputs = [text for path in forbidden for text in _inputs(path)]
    with file.open(encoding="utf-8") as lines:
        built = build_pool(
            lines,
            folder,
            name,
            embed=embed,
            embedder=digest,
            forbidden=inputs,
            per_label=per_label,
            per_unit=per_unit,
            where=str(file),
        )
    if review is not None:
        review.write_text("".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in built.left))
    if as_json:
        click.echo(json.dumps({**asdict(built.manifest), "folder": str(built.folder), "fresh": built.fresh}))
        return
    _tell(built, review)


@pool.command("show")
@click.argument("reference", metavar="NAME[@VERSION]")
@POOLS
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show_pool(settings: Settings, reference: str, pools: Path | None, as_json: bool) -> None:
    """Show what a pool holds, and check that nothing of it was changed."""
    folder = _folder(settings, pools)
    name, _, version = reference.partition("@")
    there = versions(folder, name)
    if not there or (version and not (version.isdecimal() and int(version) in there)):
        known = ", ".join(f"{name}@{one}" for one in there) or "none of that name"
        raise click.ClickException(f"no pool {reference} in {folder}: there is {known}")
    at = folder / name / (version or str(there[-1]))
    manifest = read_manifest(at)
    opened = open_pool(at, embed=_nothing, embedder=manifest.embedder)
    if as_json:
        click.echo(json.dumps({**asdict(manifest), "folder": str(at)}))
        return
    labels = ", ".join(f"{label} {count}" for label, count in manifest.labels.items()) or "none"
    click.echo(f"{manifest.reference}: {manifest.demos} demonstrations, {manifest.digest[:12]}, in {at}")
    click.echo(f"labels       {labels}")
    click.echo(f"gate         {_gate(manifest.max_distance)}")
    click.echo(f"parent       {manifest.parent or 'none'}")
    click.echo(f"left out     {_counts(manifest.left)}")
    for demo in opened.demos[:3]:
        click.echo(f"- {demo.id}: {_short(demo.input)} → {_short(demo.output)}")


def demo_embedder(settings: Settings) -> tuple[Embed, str]:
    """The settings' embedder of worked examples and its digest, as the server opens it."""
    knobs = settings.demos
    name = knobs.embedder or settings.retrieval.embedder
    try:
        opened = open_embedder(name, settings.paths.cache / "models", torch_names(settings.retrieval.device))
    except IndexerError as problem:
        raise click.ClickException(str(problem)) from None
    digest = opened.digest if knobs.poolings == 1 else f"{opened.digest}/{knobs.poolings}"
    return evened(opened.passages, knobs.poolings), digest


def _tell(built: Built, review: Path | None) -> None:
    manifest = built.manifest
    if built.fresh:
        click.echo(f"{manifest.reference}: {manifest.demos} demonstrations in {built.folder}")
    else:
        click.echo(f"{manifest.reference} is exactly this already: nothing was built")
    click.echo(f"left out     {_counts(manifest.left)}")
    for one in [one for one in built.left if one.reason == "near_another_label"][:SHOWN]:
        click.echo(f"- {one.id} nearly says what {one.because} says, under another label: look at both")
    if built.left and review is None:
        click.echo("--review FILE writes every line that was left out, with its reason")


def _folder(settings: Settings, pools: Path | None) -> Path:
    folder = pools or settings.paths.pools
    if folder is None:
        raise click.UsageError("no folder of pools: name one with --pools, or in the settings as paths.pools")
    return folder


def _inputs(path: Path) -> list[str]:
    """What the judged items of a file ask."""
    found = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                text = _question(line)
                if text is None:
                    wanted = f"must be a JSON object with a text in {', '.join(QUESTION)}"
                    raise PoolInvalid(str(path), [f"line {number}: {wanted}"])
                found.append(text)
    return found


def _question(line: str) -> str | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    return next((row[key] for key in QUESTION if isinstance(row.get(key), str) and row[key].strip()), None)


def _nothing(texts: Any, /) -> Any:
    raise AssertionError("a pool's own vectors were not used")


def _gate(distance: float | None) -> str:
    return (
        "none"
        if distance is None
        else f"{distance:.3f} (1 − cosine): demonstrations farther off are not shown"
    )


def _counts(left: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in left.items()) or "nothing"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"
