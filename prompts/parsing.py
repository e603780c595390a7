"""A TOML file becomes a Template, or a list of everything that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from prompts import sections
from prompts.checks import problems_of
from prompts.errors import TemplateInvalid
from prompts.fields import Fields
from prompts.records import Task, Template, WhenEmpty

FORMAT = 1
FILE_BYTES = 256 * 1024  # a template is wording, not a data set


def parse(content: bytes, where: str) -> Template:
    """The template in a TOML file; `where` names it in messages.

    Raises TemplateInvalid with every problem at once.
    """
    if len(content) > FILE_BYTES:
        raise TemplateInvalid(where, [f"the file is larger than {FILE_BYTES} bytes"])
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TemplateInvalid(where, [str(error)]) from error
    problems: list[str] = []
    template = _template(Fields(table, "", problems), _digest(table))
    problems += problems_of(template)
    if problems:
        raise TemplateInvalid(where, problems)
    return template


def _digest(table: Mapping[str, Any]) -> str:
    # dates have no use in a template; str() keeps the digest total, and the strict reader refuses them
    canonical = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _template(root: Fields, digest: str) -> Template:
    if root.integer("format", required=True) not in (FORMAT, None):
        root.complain(f"format must be {FORMAT}, the only one there is")
    parts, fewshot, retrieval = root.table("parts"), root.table("fewshot"), root.table("retrieval")
    template = Template(
        name=root.text("name"),
        version=root.integer("version", least=1, required=True) or 0,
        digest=digest,
        task=root.choice("task", Task, "answer"),
        about=root.text("about"),
        parts={name: parts.text(name).strip("\n") for name, _ in parts.rest()},
        slots={name: sections.slot(slot) for name, slot in _named_tables(root.table("slots"))},
        layout=sections.layout(root.table("layout")),
        static=sections.policy(fewshot.table("static")),
        dynamic=sections.policy(fewshot.table("dynamic")),
        demos=tuple(sections.demo(row, f"template-{at}") for at, row in enumerate(root.tables("demos"), 1)),
        labels=sections.labels(root.table("labels")),
        budget=sections.budget(root.table("budget")),
        retrieval_top=retrieval.integer("top", least=1),
        when_empty=retrieval.optional("when_empty", WhenEmpty),
        sampling=sections.sampling(root.table("sampling")),
        examples=tuple(sections.example(row) for row in root.tables("examples")),
    )
    for table in (fewshot, retrieval, root):
        table.close()
    return template


def _named_tables(fields: Fields) -> list[tuple[str, Fields]]:
    return [(name, fields.table(name)) for name, _ in fields.rest()]
