"""Cursor lists (openai-surface §3): the page asked for, and the page."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from indexer.paging import Page as Listed
from server.errors import InvalidValue, UnsupportedParameter
from server.wire.cursors import MOST, USUAL, list_body


class Page(NamedTuple):
    limit: int = USUAL
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


def read_page(query: Mapping[str, str]) -> Page:
    """Raises InvalidValue, UnsupportedParameter."""
    for name in query:
        if name not in ("limit", "order", "after", "before", "include", "include[]"):
            raise UnsupportedParameter(f"Unknown query parameter {name[:64]!r}.", param=name[:64])
    limit = query.get("limit", str(USUAL))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MOST):
        raise InvalidValue(f"limit must be a whole number from 1 to {MOST}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidValue("order must be asc or desc", param="order")
    return Page(int(limit), "asc" if order == "asc" else "desc", query.get("after"), query.get("before"))


def page(items: Sequence[Mapping[str, Any]], asked: Page) -> dict[str, Any]:
    """The part of `items`, oldest first, that was asked for. Raises InvalidValue for a foreign cursor."""
    ordered = list(items) if asked.order == "asc" else list(reversed(items))
    ids = [item["id"] for item in ordered]
    start, stop = 0, len(ordered)
    for name, cursor in (("after", asked.after), ("before", asked.before)):
        if cursor is None:
            continue
        if cursor not in ids:
            raise InvalidValue(f"{name} is no id of this list", param=name)
        if name == "after":
            start = ids.index(cursor) + 1
        else:
            stop = ids.index(cursor)
    window = ordered[start:stop]
    shown = window[: asked.limit]
    return list_body(shown, Listed(tuple(shown), len(window) > len(shown)))
