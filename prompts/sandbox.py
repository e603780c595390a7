"""Wording is Jinja2, cut down to what wording needs, and checked before it is compiled.

The order matters: Jinja2 folds constants while compiling, so `{{ 'a' * 99999999 }}` costs memory before
anything is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2 import Template as Compiled
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prompts.errors import RenderFailed

FILTERS = ("join", "length", "lower", "trim", "upper")
LOOP_DEPTH = 2
FREE_CHARS = 10_000  # output allowed beyond twice the wording and its values

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Getattr,
    nodes.If,
    nodes.For,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Const,
    nodes.Filter,
)

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False, cache_size=0
)
_environment.globals.clear()
_environment.filters = {name: _environment.filters[name] for name in FILTERS}


def problems_in(wording: str) -> list[str]:
    """Everything in the wording that the sandbox refuses; nothing is compiled."""
    try:
        tree = _environment.parse(wording)
    except TemplateSyntaxError as error:
        return [f"line {error.lineno}: {error.message}"]
    return list(_refusals(tree, loops=0))


def names_in(wording: str) -> set[str]:
    """The values that the wording asks for; the wording must be free of problems."""
    return meta.find_undeclared_variables(_environment.parse(wording))


@lru_cache(maxsize=1024)
def asks_only_for(name: str, wording: str) -> bool:
    """Whether no other value than `name` can change what the wording comes to."""
    return names_in(wording) <= {name}


def render(part: str, wording: str, values: Mapping[str, object]) -> str:
    """The wording with its values, each put in once and never read as wording.

    Raises RenderFailed for a value that is missing or when the output outgrows
    2 x (wording + values) + 10 000 characters.
    """
    if (said := _filled(_parts(wording), values)) is not None:
        return said
    bound = 2 * (len(wording) + sum(_size(value) for value in values.values())) + FREE_CHARS
    pieces: list[str] = []
    size = 0
    try:
        for piece in _compiled(wording).generate(values):
            size += len(piece)
            if size > bound:
                raise RenderFailed(part, f"more than {bound} characters come out")
            pieces.append(piece)
    except JinjaError as error:
        raise RenderFailed(part, str(error)) from error
    return "".join(pieces)


def render_each(
    part: str, wording: str, values: Mapping[str, object], items: Sequence[Mapping[str, object]]
) -> list[str]:
    """`render` once for each of `items`, which the wording knows by the name of the part."""
    pattern, names = _pattern(part, wording)
    said = []
    for item in items:
        text = None
        if pattern is not None:
            shown = [item.get(name) for name in names]
            if _WRITTEN.issuperset(map(type, shown)):
                text = pattern % tuple(shown)
        if text is None or len(text) > FREE_CHARS:
            text = render(part, wording, {**values, part: item})
        said.append(text)
    return said


_WRITTEN = frozenset((str, int))  # types of values that `%s` writes as Jinja2 does


class _Pattern(NamedTuple):
    text: str | None  # for `%`; None where the wording asks for more than an item's own values
    names: tuple[str, ...]


@lru_cache(maxsize=1024)
def _pattern(part: str, wording: str) -> _Pattern:
    """The wording of one item, where it says nothing but texts and the values of the item."""
    parts = _parts(wording) or ((),)
    paths = [path for path in parts if type(path) is not str]
    if any(len(path) != 2 or path[0] != part for path in paths):
        return _Pattern(None, ())
    texts = [one.replace("%", "%%") if type(one) is str else "%s" for one in parts]
    return _Pattern("".join(texts), tuple(path[1] for path in paths))


Part = str | tuple[str, ...]  # text, or the path to a value


@lru_cache(maxsize=1024)
def _parts(wording: str) -> tuple[Part, ...] | None:
    """The wording as texts and values, where it is no more than that; None where Jinja2 has to think."""
    _compiled(wording)  # refuses what is not allowed
    parts: list[Part] = []
    for output in _environment.parse(wording).body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data)
            elif path := _path(node):
                parts.append(path)
            else:
                return None
    return tuple(parts)


def _path(node: nodes.Node) -> tuple[str, ...]:
    """`source.title` as its names; empty for anything else."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr) and not hasattr(dict, node.attr):
        return (*inner, node.attr) if (inner := _path(node.node)) else ()
    return ()


def _filled(parts: Sequence[Part] | None, values: Mapping[str, object]) -> str | None:
    """The parts with their values; None where a value is anything but text or a whole number in mappings.

    Also where it is longer than what `render` always allows.
    """
    if parts is None:
        return None
    texts: list[str] = []
    for part in parts:
        if type(part) is str:
            texts.append(part)
            continue
        value: object = values
        for name in part:
            # A dict first: to ask whether something is a Mapping costs more than to fill it in.
            if not (type(value) is dict or isinstance(value, Mapping)) or name not in value:
                return None
            value = value[name]
        if type(value) is str:
            texts.append(value)
        elif type(value) is int:
            texts.append(str(value))
        else:
            return None
    said = "".join(texts)
    return said if len(said) <= FREE_CHARS else None


@lru_cache(maxsize=1024)
def _compiled(wording: str) -> Compiled:
    if refused := problems_in(wording):
        raise RenderFailed("wording", "; ".join(refused))
    return _environment.from_string(wording)


def _refusals(node: nodes.Node, loops: int) -> Iterator[str]:
    if not isinstance(node, _ALLOWED):
        yield f"line {node.lineno}: {_spoken(node)} is not allowed in wording"
        return  # what is inside a refused construct is not worth a second complaint
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        yield f"line {node.lineno}: attribute {node.attr!r} is private"
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        yield f"line {node.lineno}: filter {node.name!r} is not allowed (allowed: {', '.join(FILTERS)})"
    if isinstance(node, nodes.Output):
        values = [not isinstance(piece, nodes.TemplateData) for piece in node.nodes]
        if any(left and right for left, right in pairwise(values)):
            yield f"line {node.lineno}: put text between two values, or they can grow together"
    if isinstance(node, nodes.For):
        loops += 1
        if loops > LOOP_DEPTH:
            yield f"line {node.lineno}: loops are nested more than {LOOP_DEPTH} deep"
        if node.recursive:
            yield f"line {node.lineno}: a recursive loop is not allowed in wording"
    for child in node.iter_child_nodes():
        yield from _refusals(child, loops)


def _spoken(node: nodes.Node) -> str:
    return {"Call": "a call", "Assign": "`set`", "Getitem": "an index"}.get(
        type(node).__name__, f"`{type(node).__name__.lower()}`"
    )


def _size(value: object) -> int:
    """Characters a value can put into the output each time it is named."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_size(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_size(item) for item in value)
    return len(str(value))
