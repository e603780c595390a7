"""Cursor lists of the catalogue (openai-surface §3): the window asked for, and the body of the page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from indexer.paging import Page, Window
from server.errors import InvalidValue, UnsupportedParameter

USUAL, MOST = 20, 100


def read_window(
    query: Mapping[str, str], prefix: str, *, also: Sequence[str] = (), usual: int = USUAL, most: int = MOST
) -> Window:
    """`prefix` is what ids of the list begin with. Raises InvalidValue, UnsupportedParameter."""
    for name in query:
        if name not in ("limit", "order", "after", "before", *also):
            raise UnsupportedParameter(f"Unknown query parameter {name[:64]!r}.", param=name[:64])
    limit = query.get("limit", str(usual))
    if not re.fullmatch(r"[0-9]{1,6}", limit) or not 1 <= int(limit) <= most:
        raise InvalidValue(f"limit must be a whole number from 1 to {most}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidValue("order must be asc or desc", param="order")
    for name in ("after", "before"):
        cursor = query.get(name)
        # An item that is gone leaves a good cursor; the id of another kind of thing never was one.
        if cursor is not None and not re.fullmatch(rf"{re.escape(prefix)}[0-9A-HJKMNP-TV-Z]{{26}}", cursor):
            raise InvalidValue(f"{name} is no id of this list: those begin with {prefix}", param=name)
    return Window(int(limit), order == "asc", query.get("after"), query.get("before"))


def list_body(objects: Sequence[Mapping[str, Any]], page: Page[Any]) -> dict[str, Any]:
    """`has_more` is always said: a client that misses it asks for ever."""
    return {
        "object": "list",
        "data": list(objects),
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": page.more,
    }
