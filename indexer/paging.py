"""Pages of a list that is ordered by id: ids begin with a time, so a cursor outlives its item."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for. `after` and `before` are ids, in the order of the list."""

    limit: int = 20
    ascending: bool = False
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and whether there is more of it before the window's end."""

    items: tuple[T, ...]
    more: bool


def within(query: sa.Select[Any], column: sa.ColumnElement[Any], window: Window) -> sa.Select[Any]:
    """The query for the page's rows and one more, which tells whether it is the last page."""
    later, sooner = (column.__gt__, column.__lt__) if window.ascending else (column.__lt__, column.__gt__)
    if window.after is not None:
        query = query.where(later(window.after))
    if window.before is not None:
        query = query.where(sooner(window.before))
    return query.order_by(column.asc() if window.ascending else column.desc()).limit(window.limit + 1)


def page(rows: list[T], window: Window) -> Page[T]:
    """The page of what `within` brought."""
    return Page(tuple(rows[: window.limit]), len(rows) > window.limit)
