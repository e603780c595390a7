"""What a search reads of the catalogue: the passages of chunks, and attributes for filters."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.attributes import Described

_MANY = 500  # ids in one IN (…)
_FETCHED = 2000  # rows held at once


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


def passages(engine: sa.Engine, ids: Sequence[int], numbers: Mapping[str, int]) -> dict[int, Passage]:
    """The visible ones among these chunks; `numbers` are the generations seen, by store id."""
    chunks, documents, files = schema.chunks, schema.documents, schema.files
    seen = sa.or_(
        *(
            sa.and_(chunks.c.store_id == store, sa.or_(chunks.c.died.is_(None), chunks.c.died > number))
            for store, number in numbers.items()
        )
    )
    parted = chunks.c.parent_start.is_not(None)
    length = chunks.c.parent_end - chunks.c.parent_start
    query = (
        sa.select(
            chunks,
            documents.c.file_id,
            documents.c.external_id,
            documents.c.title,
            documents.c.attributes,
            files.c.filename,
            sa.case((parted, sa.func.substr(documents.c.text, chunks.c.parent_start + 1, length))).label(
                "parent"
            ),
            sa.case((parted, documents.c.pages)).label("pages"),
        )
        .join(documents, documents.c.id == chunks.c.document_id)
        .join(files, files.c.id == documents.c.file_id)
    )
    found: dict[int, Passage] = {}
    with engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            rows = connection.execute(query.where(chunks.c.id.in_(ids[at : at + _MANY]), seen))
            found.update((row["id"], _passage(row)) for row in rows.mappings())
    return found


def described(engine: sa.Engine, store_id: str, after: int) -> Iterator[Described]:
    """The store's chunks with ids above `after`, in order of their ids, with their attributes."""
    chunks, documents = schema.chunks, schema.documents
    query = (
        sa.select(chunks.c.id, chunks.c.document_id, documents.c.attributes)
        .join(documents, documents.c.id == chunks.c.document_id)
        .where(chunks.c.store_id == store_id, chunks.c.id > after)
        .order_by(chunks.c.id)
    )
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=_FETCHED).execute(query):
            yield Described(*row)


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
