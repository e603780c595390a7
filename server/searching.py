"""`fewshot prompts search`: a better next version of a template, or an honest report that there is none."""

import asyncio
import json
import secrets
import tomllib
from pathlib import Path
from typing import Any

import click

from prompts.cli import prompts
from prompts.demos import Pool
from prompts.listing import Listing
from prompts.records import Template
from prompts.search.proposing import Tell
from prompts.search.report import as_json, markdown, plot, verdict
from prompts.search.running import SIZES, Found, search, smallest_gain
from prompts.search.splits import Most, Splits, read_splits
from prompts.templates import SHIPPED, Library
from server.asked_model import AskedModel, writer
from server.decoder_opening import decoder_opener
from server.errors import ServerError
from server.models import ModelUnavailable
from server.pooling import demo_embedder
from server.seams import Decoder
from server.settings import Settings

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OPENED = "held-out-openings.jsonl"
EXPERIMENT = """\
format = 1
name = "{name}-{version}"
question = "Is {name}@{version} better for users than {name}@{parent}, as it was on held-out items?"
unit = "conversation"
control = "control"
salt = "{salt}"
ramp = 0.05

[arms.control]
weight = 0.5
template = "{name}@{parent}"

[arms.searched]
weight = 0.5
template = "{name}@{version}"

[metrics.thumb]
kind = "binary"
from = "feedback.thumb"
per_unit = "last"
missing = "exclude"

[decide]
primary = "thumb"
"""


@prompts.command("search")
@click.argument("template")
@click.option(
    "--data", type=FOLDER, required=True, help="demos, search and held_out .jsonl, or train and test."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="For the results."
)
@click.option("--size", type=click.Choice(list(SIZES)), default="light", show_default=True)
@click.option(
    "--budget", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Prompt tokens."
)
@click.option("--search-items", type=click.IntRange(min=20), default=300, show_default=True)
@click.option("--held-out-items", type=click.IntRange(min=20), default=1000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--writer-url", help="Another endpoint (OpenAI's chat route) that writes the instructions.")
@click.option("--writer-model", default="", help="Its model.")
@click.option(
    "--writer-key", envvar="FEWSHOT_WRITER_KEY", default="none", help="Its key (FEWSHOT_WRITER_KEY)."
)
@click.option("--json", "as_object", is_flag=True, help="One JSON object instead of the report.")
@click.pass_obj
def search_wording(
    settings: Settings,
    /,
    template: str,
    data: Path,
    out: Path,
    size: str,
    budget: int,
    search_items: int,
    held_out_items: int,
    seed: int,
    writer_url: str | None,
    writer_model: str,
    writer_key: str,
    as_object: bool,
) -> None:
    """Search for a better next version of TEMPLATE (name or name@version) with the settings' model.

    Candidates are paraphrases of the instruction, instructions induced from examples, the wording less a
    sentence, and the best of these with sets of examples. They race on the search items under the budget.
    The one winner meets the original, random examples, nearest examples and as many random rewrites on the
    held-out items, once. OUT gets report.md, search.json, search.png, and where there is a new version its
    file and an experiment at a ramp of 0.05. Nothing is made the default.
    """

    folders = [settings.paths.templates] if settings.paths.templates else []
    chosen = Library.load(*folders).get(template)
    table = tomllib.loads(_file(chosen, [*folders, SHIPPED]).read_text(encoding="utf-8"))
    ids = [label.id for label in chosen.labels.labels] if chosen.labels else []
    embed, _ = demo_embedder(settings)
    splits = read_splits(data, ids, Most(search=search_items, held_out=held_out_items), embed)
    items = len(splits.held_out)
    click.echo(
        f"{len(splits.demos)} demos, {len(splits.search)} search items, {items} held-out items "
        f"({splits.dropped} rows dropped that a later split says too); a gain of {smallest_gain(items):.3f} "
        "can be shown",
        err=True,
    )
    vectors = embed([demo.input for demo in splits.demos])
    pool = Pool(Listing(splits.demos, "search", ()), vectors=vectors, embed=embed)
    with asyncio.Runner() as runner:
        try:
            decoder: Decoder = runner.run(decoder_opener(settings)())
        except (ServerError, ModelUnavailable) as problem:
            raise click.ClickException(str(problem)) from None
        try:
            asked = AskedModel(decoder, runner)
            tell: Tell = writer(writer_url, writer_model, writer_key) if writer_url else asked.tell
            found = search(
                table,
                splits,
                asked,
                tell,
                pool=pool,
                size=size,
                budget_tokens=budget,
                seed=seed,
                say=lambda line: click.echo(line, err=True),
            )
        except ServerError as problem:
            raise click.ClickException(str(problem)) from None
        finally:
            runner.run(decoder.close())
    about = {
        "template": chosen.reference,
        "digest": chosen.digest,
        "model": decoder.profile.name,
        "model_sha256": decoder.profile.sha256,
        "data": data.name,
        "size": size,
        "budget": budget,
        "seed": seed,
        "openings": _opened(data, chosen, out),
    }
    written = write_results(out, chosen, found, splits, about)
    report = as_json(found, splits, about)
    click.echo(json.dumps(report) if as_object else markdown(found, splits, about), nl=as_object)
    for path in written:
        click.echo(f"wrote {path}", err=True)


def write_results(
    out: Path, chosen: Template, found: Found, splits: Splits, about: dict[str, Any]
) -> list[Path]:
    """The report's files, and those of the new version where there is one."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown(found, splits, about), encoding="utf-8")
    (out / "search.json").write_text(
        json.dumps(as_json(found, splits, about), indent=1) + "\n", encoding="utf-8"
    )
    plot(found, out / "search.png")
    written = [out / "report.md", out / "search.json", out / "search.png"]
    if found.winner.proposer != "original":
        version = found.winner.template.version
        file = out / chosen.name / f"{version}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        heading = "".join(
            f"# {line}\n" for line in (f"found by a search from {chosen.reference}", verdict(found))
        )
        file.write_bytes(heading.encode() + found.winner.source)
        experiment = out / "experiments" / f"{chosen.name}-{version}.toml"
        experiment.parent.mkdir(exist_ok=True)
        experiment.write_text(
            EXPERIMENT.format(
                name=chosen.name, version=version, parent=chosen.version, salt=secrets.token_hex(16)
            ),
            encoding="utf-8",
        )
        written += [file, experiment]
    return written


def _opened(data: Path, chosen: Template, out: Path) -> int:
    """How often the held-out items of a folder were judged by, this time included; counted in the folder.

    Beside the results where the folder cannot be written.
    """
    line = json.dumps({"template": chosen.reference, "digest": chosen.digest}) + "\n"
    for folder in (data, out):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / OPENED).open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError:
            continue
        return len((folder / OPENED).read_text(encoding="utf-8").splitlines())
    return 1


def _file(template: Template, folders: list[Path]) -> Path:
    """The template's file: the later folder wins, as in the library."""
    paths = [folder / template.name / f"{template.version}.toml" for folder in folders]
    return next(path for path in paths if path.is_file())
