"""What a search reads of the catalogue: the passages of chunks, and attributes for filters."""

import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import accumulate
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.attributes import Described
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import StoreExpired, UnknownStore
from indexer.passages import indexed
from indexer.records import Store

DAY_SECONDS = 86_400
_MANY = 500  # ids in one IN (…)
_FETCHED = 2000  # rows held at once
_STORE = tuple(field.name for field in fields(Store))


class Passage(NamedTuple):
    """A visible chunk with what it is to be read as: itself, or the passage it is a part of."""

    row: sa.RowMapping  # of the chunk, with its document's and file's
    text: str
    char_start: int
    char_end: int
    page_start: int | None
    page_end: int | None

    @property
    def place(self) -> tuple[int, int, int]:
        """Equal for chunks that are read as the same passage."""
        return self.row["document_id"], self.char_start, self.char_end


_PARTED = schema.chunks.c.parent_start.is_not(None)
_LENGTH = schema.chunks.c.parent_end - schema.chunks.c.parent_start
# Built once: to build a statement takes longer than to run it.
_PASSAGES = (
    sa.select(
        schema.chunks,
        schema.documents.c.file_id,
        schema.files.c.upload_id,
        schema.files.c.attributes.label("file_attributes"),
        schema.documents.c.external_id,
        schema.documents.c.title,
        schema.documents.c.attributes,
        schema.files.c.filename,
        sa.case(
            (_PARTED, sa.func.substr(schema.documents.c.text, schema.chunks.c.parent_start + 1, _LENGTH))
        ).label("parent"),
        sa.case((_PARTED, schema.documents.c.pages)).label("pages"),
    )
    .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
    .join(schema.files, schema.files.c.id == schema.documents.c.file_id)
    .where(schema.chunks.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_WORDINGS = (
    sa.select(
        schema.chunks.c.id,
        schema.documents.c.title,
        schema.chunks.c.text,
        schema.chunks.c.headings,
        schema.chunks.c.lead,
    )
    .join(schema.documents, schema.documents.c.id == schema.chunks.c.document_id)
    .where(schema.chunks.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_STORES = sa.select(schema.stores).where(
    schema.stores.c.deleted_at.is_(None),
    sa.or_(
        schema.stores.c.id.in_(sa.bindparam("names", expanding=True)),
        schema.stores.c.name.in_(sa.bindparam("names", expanding=True)),
    ),
)


def passages(engine: sa.Engine, ids: Sequence[int], numbers: Mapping[str, int]) -> dict[int, Passage]:
    """The visible ones among these chunks; `numbers` are the generations seen, by store id."""
    found: dict[int, Passage] = {}
    with engine.connect() as connection:
        connection.execution_options(single=len(ids) <= _MANY)
        for at in range(0, len(ids), _MANY):
            for row in connection.execute(_PASSAGES, {"ids": ids[at : at + _MANY]}).mappings().all():
                number, died = numbers.get(row["store_id"]), row["died"]
                if number is not None and (died is None or died > number):
                    found[row["id"]] = _passage(row)
    return found


def wordings(engine: sa.Engine, ids: Sequence[int]) -> dict[int, str]:
    """What the keyword leg sees of each of these chunks, in the order of `ids`; gone ones left out."""
    found: dict[int, str] = {}
    if not ids:
        return found
    with engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            # All at once: each row fetched alone lets another thread take the interpreter.
            rows = connection.execute(_WORDINGS, {"ids": ids[at : at + _MANY]}).all()
            found.update((row, indexed(*wording)) for row, *wording in rows)
    return {row: found[row] for row in ids if row in found}


def stores(catalogue: Catalogue, names: Sequence[str], tenant: str | None = None) -> list[Store]:
    """The stores of those names or ids, each once; raises `UnknownStore`.

    For a tenant, another's stores do not exist, and one that expired raises `StoreExpired`.
    """
    with catalogue.engine.connect() as connection:
        connection.execution_options(single=True)
        rows = connection.execute(_STORES, {"names": list(names)}).mappings().all()
    known: dict[str, Store] = {}
    for row in rows:
        if tenant is None or row["tenant"] in (None, tenant):
            known[row["name"]] = known[row["id"]] = Store(**{key: row[key] for key in _STORE})
    if tenant is not None:
        for name in names:
            if name not in known:
                raise UnknownStore(f"no vector store '{name}'")
        for row in rows:
            if row["id"] in known:
                _keep_alive(catalogue, row)
    chosen = [known.get(name) or catalogue.store(name) for name in names]
    return list({store.id: store for store in chosen}.values())


def _keep_alive(catalogue: Catalogue, row: sa.RowMapping) -> None:
    """A search keeps the store for as many days again; written down once an hour."""
    if row["expires_days"] is None:
        return
    now, active = int(time.time()), row["last_active_at"] or row["created_at"]
    if now >= active + row["expires_days"] * DAY_SECONDS:
        raise StoreExpired(f"vector store '{row['id']}' expired; make a new one, its files are still there")
    if now - active > 3600:
        with writing(catalogue.engine) as connection:
            mine = schema.stores.c.id == row["id"]
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


def _passage(row: sa.RowMapping) -> Passage:
    if row["parent"] is None:
        return Passage(
            row, row["text"], row["char_start"], row["char_end"], row["page_start"], row["page_end"]
        )
    start, end = row["parent_start"], row["parent_end"]
    ends = list(accumulate(characters for _, characters in row["pages"]))
    first, last = bisect_right(ends, start), bisect_right(ends, end - 1)
    pages = [page for page, _ in row["pages"]]
    return Passage(row, row["parent"], start, end, pages[first], pages[last])
