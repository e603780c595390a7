"""What a search reads of the catalogue: the passages of chunks, and attributes for filters."""

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import accumulate
from typing import Any, NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.attributes import Described
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import StoreExpired, UnknownStore
from indexer.passages import indexed
from indexer.records import Attribute, Store
from indexer.statements import OneOf, Statement

DAY_SECONDS = 86_400
_MANY = 500  # ids in one IN (…)
_FETCHED = 2000  # rows held at once
_STORE = tuple(field.name for field in fields(Store))


class Found(NamedTuple):
    """A chunk as the catalogue has it, with what it is part of."""

    id: int
    key: str
    store_id: str
    document_id: int
    text: str
    char_start: int
    char_end: int
    page_start: int | None
    page_end: int | None
    headings: Sequence[str]
    lead: str
    died: int | None
    parent_start: int | None
    parent_end: int | None
    file_id: str
    upload_id: str | None
    file_attributes: Mapping[str, Attribute]
    external_id: str | None
    title: str
    attributes: Mapping[str, Attribute]
    filename: str
    parent: str | None  # the passage to read instead
    pages: Sequence[tuple[int | None, int]] | None  # of the document with a parent: page, characters


class Passage(NamedTuple):
    """A visible chunk with what it is to be read as: itself, or the passage it is a part of."""

    row: Found
    text: str
    char_start: int
    char_end: int
    page_start: int | None
    page_end: int | None

    @property
    def place(self) -> tuple[int, int, int]:
        """Equal for chunks that are read as the same passage."""
        return self.row.document_id, self.char_start, self.char_end


class _Known(NamedTuple):
    """What a search needs to know of a store, beyond its record."""

    tenant: str | None
    expires_days: int | None
    last_active_at: int | None


_PARTED = schema.chunks.c.parent_start.is_not(None)
_LENGTH = schema.chunks.c.parent_end - schema.chunks.c.parent_start
_OTHERS = {
    "file_attributes": schema.files.c.attributes,
    "parent": sa.case(
        (_PARTED, sa.func.substr(schema.documents.c.text, schema.chunks.c.parent_start + 1, _LENGTH))
    ),
    "pages": sa.case((_PARTED, schema.documents.c.pages)),
}
_TABLES = (schema.chunks, schema.documents, schema.files)  # the first one that has a column of that name


def _column(name: str) -> sa.ColumnElement[Any]:
    if name in _OTHERS:
        return _OTHERS[name].label(name)
    return next(table.c[name] for table in _TABLES if name in table.c)


_PASSAGES = Statement(
    sa.select(*map(_column, Found._fields))
    .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
    .join(schema.files, schema.files.c.id == schema.documents.c.file_id)
    .where(OneOf(schema.chunks.c.id, "ids"))
)
_WORDINGS = Statement(
    sa.select(*map(_column, ("id", "title", "text", "headings", "lead")))
    .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
    .where(OneOf(schema.chunks.c.id, "ids"))
)
_STORES = Statement(
    sa.select(*(schema.stores.c[name] for name in (*_STORE, *_Known._fields))).where(
        schema.stores.c.deleted_at.is_(None),
        sa.or_(OneOf(schema.stores.c.id, "names"), OneOf(schema.stores.c.name, "names")),
    )
)


def passages(engine: sa.Engine, ids: Sequence[int], numbers: Mapping[str, int]) -> dict[int, Passage]:
    """The visible ones among these chunks; `numbers` are the generations seen, by store id."""
    found: dict[int, Passage] = {}
    for at in range(0, len(ids), _MANY):
        for row in map(Found._make, _PASSAGES.rows(engine, ids=ids[at : at + _MANY])):
            number = numbers.get(row.store_id)
            if number is not None and (row.died is None or row.died > number):
                found[row.id] = _passage(row)
    return found


def wordings(engine: sa.Engine, ids: Sequence[int]) -> dict[int, str]:
    """What the keyword leg sees of each of these chunks, in the order of `ids`; gone ones left out."""
    found: dict[int, str] = {}
    for at in range(0, len(ids), _MANY):
        rows = _WORDINGS.rows(engine, ids=ids[at : at + _MANY])
        found.update((row, indexed(*wording)) for row, *wording in rows)
    return {row: found[row] for row in ids if row in found}


def stores(catalogue: Catalogue, names: Sequence[str], tenant: str | None = None) -> list[Store]:
    """The stores of those names or ids, each once; raises `UnknownStore`.

    For a tenant, another's stores do not exist, and one that expired raises `StoreExpired`.
    """
    known: dict[str, Store] = {}
    alive: list[tuple[Store, _Known]] = []
    for row in _STORES.rows(catalogue.engine, asker=tenant or "", names=names):
        store, more = Store(*row[: len(_STORE)]), _Known._make(row[len(_STORE) :])
        if tenant is None or more.tenant in (None, tenant):
            known[store.name] = known[store.id] = store
            if tenant is not None:
                alive.append((store, more))
    if tenant is not None:
        for name in names:
            if name not in known:
                raise UnknownStore(f"no vector store '{name}'")
        for store, more in alive:
            _keep_alive(catalogue, store, more)
    chosen = [known.get(name) or catalogue.store(name) for name in names]
    return list({store.id: store for store in chosen}.values())


def _keep_alive(catalogue: Catalogue, store: Store, known: _Known) -> None:
    """A search keeps the store for as many days again; written down once an hour."""
    if known.expires_days is None:
        return
    now, active = int(time.time()), known.last_active_at or store.created_at
    if now >= active + known.expires_days * DAY_SECONDS:
        raise StoreExpired(f"vector store '{store.id}' expired; make a new one, its files are still there")
    if now - active > 3600:
        with writing(catalogue.engine) as connection:
            mine = schema.stores.c.id == store.id
            connection.execute(sa.update(schema.stores).where(mine).values(last_active_at=now))


def described(engine: sa.Engine, store_id: str, after: int) -> Iterator[Described]:
    """The store's chunks with ids above `after`, in order of their ids, with their attributes."""
    chunks, documents, files = schema.chunks, schema.documents, schema.files
    query = (
        sa.select(chunks.c.id, chunks.c.document_id, documents.c.attributes, files.c.attributes)
        .join(documents, documents.c.id == chunks.c.document_id)
        .join(files, files.c.id == documents.c.file_id)
        .where(chunks.c.store_id == store_id, chunks.c.id > after)
        .order_by(chunks.c.id)
    )
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=_FETCHED).execute(query):
            yield Described(row[0], row[1], {**row[2], **row[3]} if row[3] else row[2])


def _passage(row: Found) -> Passage:
    if row.parent is None or row.pages is None or row.parent_start is None or row.parent_end is None:
        return Passage(row, row.text, row.char_start, row.char_end, row.page_start, row.page_end)
    ends = list(accumulate(characters for _, characters in row.pages))
    first, last = bisect_right(ends, row.parent_start), bisect_right(ends, row.parent_end - 1)
    pages = [page for page, _ in row.pages]
    return Passage(row, row.parent, row.parent_start, row.parent_end, pages[first], pages[last])
