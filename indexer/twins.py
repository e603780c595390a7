"""Chunks that say nearly what an earlier chunk of the store says: marked, never left out.

MinHash over runs of three words (Broder 1997), in bands that meet for nearly equal texts (Leskovec,
Rajaraman, Ullman, Mining of Massive Datasets, 3.4). Only the first chunk of its kind stands in a band, so a
new chunk has at most `BANDS` candidates, and these are compared exactly.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from indexer import schema
from indexer.records import Store
from indexer.words import words

ALIKE = 0.8  # share of runs that both have of those that either has: one word in thirty changed
RUN = 3  # words
BANDS, ROWS = 5, 4  # 99 % of pairs at 0.9 meet in a band, 93 % at 0.8, 28 % at 0.5
LEAST_RUNS = 8  # shorter texts are alike by chance
_MANY = 500  # keys in one IN (…)

Hashes = NDArray[np.uint64]
_SEEDS = np.arange(1, BANDS * ROWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


class Likeness(NamedTuple):
    """What is compared of a text."""

    runs: Hashes  # of its runs of words, sorted, each once
    bands: tuple[int, ...]  # signed 64 bits; none for a short text


def likeness(text: str) -> Likeness:
    """Hashes of a text; case, punctuation and spacing do not count."""
    codes = np.array([zlib.crc32(word.encode()) for word in words(text)], dtype=np.uint64)
    if len(codes) < LEAST_RUNS + RUN - 1:
        return Likeness(np.empty(0, dtype=np.uint64), ())
    mixed = np.zeros(len(codes) - RUN + 1, dtype=np.uint64)
    for at in range(RUN):
        mixed = _mix(mixed ^ codes[at : len(codes) - RUN + 1 + at])
    runs = np.unique(mixed)
    least = _mix(runs[None, :] ^ _SEEDS[:, None]).min(axis=1).reshape(BANDS, ROWS)
    keys = np.arange(1, BANDS + 1, dtype=np.uint64)
    for row in range(ROWS):
        keys = _mix(keys ^ least[:, row])
    return Likeness(runs, tuple(keys.view(np.int64).tolist()))


def alike(one: Likeness, other: Likeness) -> bool:
    """Whether the texts say nearly the same."""
    shared = len(np.intersect1d(one.runs, other.runs, assume_unique=True))
    return shared > 0 and shared >= ALIKE * (len(one.runs) + len(other.runs) - shared)


def mark(connection: sa.Connection, store: Store, texts: Mapping[int, str]) -> int:
    """Mark those of these new chunks that are twins, within the transaction that inserts them; how many."""
    likenesses, chunks = schema.likenesses, schema.chunks
    live = _live(connection, sorted(texts))  # some are buried in the transaction that brought them
    new = {row: likeness(texts[row]) for row in live}
    first = _firsts(connection, store, sorted({band for each in new.values() for band in each.bands}))
    known = {row: likeness(text) for row, text in _texts(connection, sorted(set(first.values()))).items()}
    twins: list[dict[str, int]] = []
    stands: dict[int, int] = {}
    for row, mine in new.items():
        candidates = sorted({first[band] for band in mine.bands if band in first})
        twin = next((other for other in candidates if alike(mine, known[other])), None)
        if twin is not None:
            twins.append({"row": row, "twin": twin})
            continue
        known[row] = mine
        for band in mine.bands:
            if band not in first:
                first[band] = stands[band] = row
    bands = sorted(stands)
    for at in range(0, len(bands), _MANY):  # those of chunks that are dead
        here = likenesses.c.band.in_(bands[at : at + _MANY])
        connection.execute(sa.delete(likenesses).where(likenesses.c.store_id == store.id, here))
    if stands:
        rows = [{"store_id": store.id, "band": band, "chunk_id": row} for band, row in stands.items()]
        connection.execute(likenesses.insert(), rows)
    if twins:
        which = chunks.c.id == sa.bindparam("row")
        connection.execute(sa.update(chunks).where(which).values(twin_of=sa.bindparam("twin")), twins)
    return len(twins)


def pass_on(connection: sa.Connection, documents: Sequence[int]) -> None:
    """Where chunks of these documents have twins elsewhere, the first of those takes their place.

    Within the transaction that buries the documents, after their chunks were.
    """
    likenesses, chunks = schema.likenesses, schema.chunks
    dead = sa.select(chunks.c.id).where(chunks.c.document_id.in_(documents))
    query = sa.select(chunks.c.id, chunks.c.twin_of).where(
        chunks.c.twin_of.in_(dead), chunks.c.died.is_(None)
    )
    heirs: dict[int, int] = {}
    for row in connection.execute(query.order_by(chunks.c.id)).all():
        heir = heirs.setdefault(row.twin_of, row.id)
        twin_of = None if heir == row.id else heir
        connection.execute(sa.update(chunks).where(chunks.c.id == row.id).values(twin_of=twin_of))
    for old, heir in heirs.items():
        mine = likenesses.c.chunk_id == old
        connection.execute(sa.update(likenesses).where(mine).values(chunk_id=heir))


def _mix(values: Hashes) -> Hashes:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit of the result depends on every bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _live(connection: sa.Connection, ids: Sequence[int]) -> list[int]:
    chunks = schema.chunks
    found: list[int] = []
    for at in range(0, len(ids), _MANY):
        query = sa.select(chunks.c.id).where(chunks.c.id.in_(ids[at : at + _MANY]), chunks.c.died.is_(None))
        found += connection.execute(query).scalars()
    return sorted(found)


def _firsts(connection: sa.Connection, store: Store, bands: Sequence[int]) -> dict[int, int]:
    """Which live chunk stands in each band."""
    likenesses, chunks = schema.likenesses, schema.chunks
    query = (
        sa.select(likenesses.c.band, likenesses.c.chunk_id)
        .join(chunks, chunks.c.id == likenesses.c.chunk_id)
        .where(likenesses.c.store_id == store.id, chunks.c.died.is_(None))
    )
    found: dict[int, int] = {}
    for at in range(0, len(bands), _MANY):
        rows = connection.execute(query.where(likenesses.c.band.in_(bands[at : at + _MANY])))
        found.update((row.band, row.chunk_id) for row in rows)
    return found


def _texts(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    chunks = schema.chunks
    found: dict[int, str] = {}
    for at in range(0, len(ids), _MANY):
        rows = connection.execute(
            sa.select(chunks.c.id, chunks.c.text).where(chunks.c.id.in_(ids[at : at + _MANY]))
        )
        found.update((row.id, row.text) for row in rows)
    return found
