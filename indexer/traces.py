"""Where a text still is under the data folder, in any form we would have left it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import open_database
from indexer.errors import DatabaseRefused, IndexerError
from indexer.records import Segment, Series
from indexer.segments import open_segment
from indexer.words import words

_BLOCK = 4 << 20
_SQLITE = b"SQLite format 3\0"
_LOGS = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")  # sqlite.org/fileformat2.html, section 4.1
_MANY = 500  # ids in one IN (…)


class Trace(NamedTuple):
    """One place where the text, or all its words, are."""

    where: str
    what: str


def traces(catalogue: Catalogue, text: str) -> Iterator[Trace]:
    """Every place under the data folder that has the text: bytes of files, rows of databases, index terms.

    The bytes of every file are searched for the text in UTF-8 and as JSON writes it, pages of SQLite
    also for a half of it at an edge, where a long value goes on elsewhere; rows of every database; and the
    keyword index, which keeps no text, for entries with all its words that belong to no chunk.
    """
    needles = sorted({text.encode(), json.dumps(text)[1:-1].encode()})
    for path in sorted(catalogue.data.rglob("*")):
        if path.is_file():
            yield from _in_bytes(path, needles)
    for path in sorted(catalogue.data.rglob("*.db")):
        yield from _in_rows(path, needles)
    if catalogue.engine.dialect.name != "sqlite":
        yield from _in_tables(catalogue.engine, text)
    for store in [*catalogue.stores(), *catalogue.deleted_stores()]:
        for series in catalogue.series(store.id):
            for segment in catalogue.segments(series):
                yield from _in_terms(catalogue, series, segment, text)


def _in_bytes(path: Path, needles: list[bytes]) -> Iterator[Trace]:
    overlap = max(map(len, needles)) - 1
    with path.open("rb") as file:
        head = file.read(100)
        file.seek(0)
        before, at = b"", 0
        while block := file.read(_BLOCK):
            data = before + block
            for needle in needles:
                if (found := data.find(needle)) >= 0:
                    yield Trace(str(path), f"bytes at {at - len(before) + found}")
                    return
            at += len(block)
            before = data[-overlap:] if overlap else b""
    for number, page in _pages(path, head):
        for needle in needles:
            half = needle[: (len(needle) + 1) // 2], needle[len(needle) // 2 :]
            begins = any(page.endswith(needle[:length]) for length in range(len(half[0]), len(needle)))
            ends = any(page[4:].startswith(needle[-length:]) for length in range(len(half[1]), len(needle)))
            if len(needle) >= 16 and (begins or ends):
                yield Trace(str(path), f"half of it at the edge of page {number}")
                return


def _pages(path: Path, head: bytes) -> Iterator[tuple[int, bytes]]:
    """Pages of a SQLite file or its log; of any other file none."""
    if head.startswith(_SQLITE):
        size, skip, frame = int.from_bytes(head[16:18], "big"), 0, 0
    elif head[:4] in _LOGS:
        size, skip, frame = int.from_bytes(head[8:12], "big"), 32, 24
    else:
        return
    size = 65_536 if size == 1 else size
    with path.open("rb") as file:
        file.seek(skip)
        number = 1
        while len(page := file.read(frame + size)) == frame + size:
            yield number, page[frame:]
            number += 1


def _in_rows(path: Path, needles: list[bytes]) -> Iterator[Trace]:
    try:
        engine = open_database(path)
    except DatabaseRefused:
        return  # no database: its bytes were searched
    with engine.connect() as connection:
        inspected = sa.inspect(connection)
        for table in inspected.get_table_names():
            for column in inspected.get_columns(table):
                name = column["name"].replace('"', '""')
                has = f'instr(CAST("{name}" AS BLOB), :needle)'
                query = sa.text(f'SELECT count(*) FROM "{table}" WHERE {has}')
                rows = max(connection.execute(query, {"needle": needle}).scalar_one() for needle in needles)
                if rows:
                    yield Trace(f"{path}: table {table}, column {column['name']}", f"{rows} rows")
    engine.dispose()


def _in_tables(engine: sa.Engine, text: str) -> Iterator[Trace]:
    with engine.connect() as connection:
        for table in schema.metadata.sorted_tables:
            for column in table.columns:
                has = sa.cast(column, sa.Text).contains(text, autoescape=True)
                query = sa.select(sa.func.count()).select_from(table).where(has)
                if rows := connection.execute(query).scalar_one():
                    yield Trace(f"the catalogue's table {table.name}, column {column.name}", f"{rows} rows")


def _in_terms(catalogue: Catalogue, series: Series, segment: Segment, text: str) -> Iterator[Trace]:
    try:
        keywords = open_segment(catalogue.data, segment, series.dimension).keywords
    except IndexerError as error:
        yield Trace(f"segment {segment.id}", f"cannot be searched: {error}")
        return
    holding: set[int] | None = None
    for word in set(words(text)):
        ids = set(keywords.match(word, max(1, keywords.size)).ids)
        holding = ids if holding is None else holding & ids
        if not holding:
            return
    unknown = (holding or set()) - _known(catalogue, sorted(holding or ()))
    if unknown:
        yield Trace(f"segment {segment.id}", f"{len(unknown)} keyword entries of chunks that are gone")


def _known(catalogue: Catalogue, ids: list[int]) -> set[int]:
    chunks = schema.chunks
    found: set[int] = set()
    with catalogue.engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            query = sa.select(chunks.c.id).where(chunks.c.id.in_(ids[at : at + _MANY]))
            found.update(connection.execute(query).scalars())
    return found
