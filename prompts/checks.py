"""What a template must hold beyond its types; each function yields problems in words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prompts import sandbox
from prompts.records import Template

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
POOL_REFERENCE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*@[1-9][0-9]*")
STATIC = ("none", "fixed", "random", "balanced")  # strategies that do not go by the question
SLOT_NAME = re.compile(r"[a-z][a-z0-9_]*")

# What each part may name besides the slots. Sources and demos never see the question: their text would
# change with it, and equal items could not share their token counts.
PARTS: dict[str, frozenset[str]] = {
    "system": frozenset({"labels"}),
    "demos_heading": frozenset(),
    "demo_input": frozenset({"demo"}),
    "demo_output": frozenset({"demo"}),
    "sources_heading": frozenset(),
    "source": frozenset({"source"}),
    "no_sources": frozenset(),
    "question": frozenset({"question", "labels"}),
    "refusal": frozenset(),
}
BUILT_IN = frozenset({"demo", "source", "history", "labels"})


def problems_of(template: Template) -> list[str]:
    """Every problem of a template whose fields have the right types."""
    wording = list(_wording(template))
    return [
        *_names(template),
        *wording,
        *(() if wording else _slots(template)),  # names can only be read from wording that parses
        *_layout(template),
        *_labels(template),
        *_demos(template),
        *_policies(template),
    ]


def _names(template: Template) -> Iterator[str]:
    if template.name and not NAME.fullmatch(template.name):
        yield f"name {template.name!r} must be lower-case words joined by hyphens"
    for slot in template.slots:
        if not SLOT_NAME.fullmatch(slot) or slot in BUILT_IN:
            yield f"slots.{slot}: choose another name"
    for name, slot_ in template.slots.items():
        if (slot_.type == "choice") != bool(slot_.choices):
            yield f"slots.{name}: choices belong to the type choice, and it needs them"


def _wording(template: Template) -> Iterator[str]:
    needed = {"question"} | ({"system"} if template.task != "answer" else set())
    if template.takes_demos or template.static.count or template.dynamic.count or template.demos:
        needed |= {"demo_input", "demo_output"}
    for part in sorted(needed - template.parts.keys()):
        yield f"parts.{part} is missing"
    for part, wording in template.parts.items():
        if part not in PARTS:
            yield f"parts.{part} is not a known part (known: {', '.join(PARTS)})"
        yield from (f"parts.{part}: {problem}" for problem in sandbox.problems_in(wording))


def _slots(template: Template) -> Iterator[str]:
    declared = set(template.slots)
    named: set[str] = set()
    for part, wording in template.parts.items():
        here = sandbox.names_in(wording)
        named |= here
        for name in sorted(here - (declared - {"question"}) - PARTS.get(part, frozenset())):
            yield f"parts.{part}: {name!r} is not a declared slot, nor built in here"
    for name in sorted(declared - named):
        yield f"slots.{name} is used in no part"
    if (
        "question" not in sandbox.names_in(template.parts.get("question", ""))
        and "question" in template.parts
    ):
        yield "parts.question must show {{ question }}"


def _layout(template: Template) -> Iterator[str]:
    layout, source = template.layout, template.parts.get("source")
    if layout.marking == "fence" and source is not None:
        if not layout.fence:
            yield "layout.fence is missing: name the strings that stand around a source"
        for fence in layout.fence:
            if fence not in source:
                yield f"layout.fence {fence!r} does not occur in parts.source"
    if layout.marking == "datamark" and source is not None:
        yield from _datamark(template)
    if any(len(fence.strip()) < 2 for fence in layout.fence):
        yield "layout.fence: each string needs at least two characters"


def _labels(template: Template) -> Iterator[str]:
    labels = template.labels.labels if template.labels else ()
    if template.task == "classify" and len(labels) < 2:
        yield "labels.set: a classify template needs at least two labels"
    texts = [label.text.strip().lower() for label in labels]
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        yield f"labels.set: two labels read {text!r}"
    ids = [label.id for label in labels]
    for id_ in sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        yield f"labels.set: two labels have the id {id_!r}"


def _demos(template: Template) -> Iterator[str]:
    known = {label.id for label in template.labels.labels} if template.labels else set()
    for demo in template.demos:
        if known and demo.label not in known:
            yield f"demos: {demo.id} has the label {demo.label!r}, which labels.set does not list"


def _datamark(template: Template) -> Iterator[str]:
    mark = template.layout.datamark
    if len(mark) != 1 or mark.isspace() or mark.isalnum():
        yield "layout.datamark must be one character that is neither space, letter nor digit"
    elif mark not in template.parts.get("system", ""):
        yield f"parts.system must explain the mark {mark!r} that stands between the words of sources"


def _policies(template: Template) -> Iterator[str]:
    if template.static.strategy not in STATIC:
        yield (
            f"fewshot.static.strategy must be one of {', '.join(STATIC)}: static demos are the same for "
            f"every question, and {template.static.strategy!r} goes by the question"
        )
    for where, policy in (("static", template.static), ("dynamic", template.dynamic)):
        if policy.ids and policy.strategy != "fixed":
            yield f"fewshot.{where}.ids belong to the strategy fixed"
        if policy.pool is not None and not POOL_REFERENCE.fullmatch(policy.pool):
            yield f"fewshot.{where}.pool must name an exact version, such as routing@5"
    if template.demos and template.static.count:
        yield "fewshot.static picks from a pool, but the template has demos of its own: keep one of them"
