"""All problems of a folder of templates, demonstration files and experiments, in one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prompts.errors import ExperimentInvalid, PoolInvalid, PromptError, TemplateInvalid
from prompts.experiment_files import load
from prompts.layout import lay_out
from prompts.listing import parse_lines
from prompts.records import Example, Prompt, Template
from prompts.seams import count_words
from prompts.templates import EXPERIMENTS, LOCK, SHIPPED, locked_digests, paths, read_file

ROOM = 1_000_000  # words; an example is a few hundred


class Finding(NamedTuple):
    where: str  # a path inside the folder
    problem: str


def findings(folder: Path) -> list[Finding]:
    """Problems of every `<name>/<version>.toml`, of the lock, of every `.jsonl` file below the folder, and of
    the experiments: `experiments/*.toml`, and `.toml` files right in the folder.
    """
    try:
        locked = locked_digests(folder)
    except TemplateInvalid as error:
        return [Finding(LOCK, problem) for problem in error.problems]
    found: list[Finding] = []
    references: set[str] = set()
    for path in paths(folder):
        where = str(path.relative_to(folder))
        try:
            template = read_file(path, locked)
        except TemplateInvalid as error:
            found += [Finding(where, problem) for problem in error.problems]
            continue
        references.add(template.reference)
        found += [Finding(where, problem) for problem in _unrenderable(template)]
        if (folder / LOCK).is_file() and template.reference not in locked:
            found.append(Finding(where, f"not in {LOCK}: `fewshot prompts lock` adds it once it is final"))
    files = {str(path.parent.name + "@" + path.stem) for path in paths(folder)}
    found += [
        Finding(LOCK, f"{gone} is locked, but its file is gone") for gone in sorted(locked.keys() - files)
    ]
    return [*found, *_pools(folder), *_experiments(folder, references)]


def rendered(template: Template, example: Example) -> Prompt:
    """The example as a prompt, counted in words and with nothing left out."""
    return lay_out(
        template,
        question=example.question,
        demos=example.demos,
        sources=example.sources,
        history=example.history,
        variables=example.variables,
        instructions=example.instructions,
        room=ROOM,
        count=count_words,
    )


def _unrenderable(template: Template) -> Iterator[str]:
    if not template.examples:
        yield "examples: give at least one, so that the wording is tried"
    for number, example in enumerate(template.examples, 1):
        try:
            rendered(template, example)
        except PromptError as error:
            yield f"examples[{number}]: {error}"


def _pools(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.rglob("*.jsonl")):
        try:
            with path.open(encoding="utf-8") as lines:
                parse_lines(lines, str(path))
        except PoolInvalid as error:
            yield from (Finding(str(path.relative_to(folder)), problem) for problem in error.problems)


def _experiments(folder: Path, references: set[str]) -> Iterator[Finding]:
    shipped = {f"{path.parent.name}@{path.stem}" for path in paths(SHIPPED)}
    for path in sorted([*folder.glob("*.toml"), *folder.glob(f"{EXPERIMENTS}/*.toml")]):
        try:
            load(path, references | shipped)
        except ExperimentInvalid as error:
            yield from (Finding(str(path.relative_to(folder)), problem) for problem in error.problems)
