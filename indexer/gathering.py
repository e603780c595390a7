"""Another embedder's vectors of a store, gathered beside those that are searched.

Batches are committed one by one, so a killed run goes on where it stopped. Nothing of it is seen by a
search before the switch, see `migration`.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from ulid import ULID

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.compaction import indexed_texts, merge_when_many
from indexer.database import writing
from indexer.errors import MigrationRefused, UnknownStore
from indexer.generations import add_segment, describe, fresh_name, series_folder
from indexer.passages import embedded
from indexer.records import Series, Store
from indexer.seams import Embedder, Ids
from indexer.segments import open_segment, stores_folder, sweep, write_segment
from indexer.windows import Windowed

BATCH_CHUNKS = 512  # committed together
_MANY = 500  # ids in one IN (…)

Progress = Callable[[int, int], None]  # chunks done, of how many


class Said(NamedTuple):
    """What there is of a chunk to embed."""

    key: str
    title: str
    text: str
    headings: Sequence[str]
    lead: str

    def embedded(self, embedder: Embedder) -> str:
        """As ingest embeds it."""
        return embedded(self.title, self.text, self.headings, self.lead, embedder)


def series_of(catalogue: Catalogue, store: Store, embedder: Embedder) -> Series:
    """The store's series of that embedder, begun if there is none.

    Raises `MigrationRefused` when the store keeps another one beside the current one already.
    """
    known = catalogue.series(store.id)
    for series in known:
        if series.embedder_digest == embedder.digest:
            return series
    others = [series.embedder for series in known if series.id != store.series]
    if others:
        raise MigrationRefused(
            f"store '{store.name}' still keeps its vectors by {others[0]}: drop them first, "
            f"`fewshot stores discard {store.name}`"
        )
    series = Series(str(ULID()), store.id, embedder.name, embedder.digest, embedder.dimension)
    row = {
        "id": series.id,
        "store_id": store.id,
        "embedder": series.embedder,
        "embedder_digest": series.embedder_digest,
        "dimension": series.dimension,
        "created_at": int(time.time()),
    }
    with writing(catalogue.engine) as connection:
        connection.execute(schema.series.insert(), row)
    return series


def missing(catalogue: Catalogue, series: Series) -> Ids:
    """Ids of live chunks that no segment of the series has, sorted. Reads the ids of all."""
    chunks = schema.chunks
    live = sa.select(chunks.c.id).where(chunks.c.store_id == series.store_id, chunks.c.died.is_(None))
    with catalogue.engine.connect() as connection:
        ids = np.sort(np.fromiter(connection.execute(live).scalars(), dtype=np.int64))
    held = [
        open_segment(catalogue.data, segment, series.dimension).vectors.ids
        for segment in catalogue.segments(series)
    ]
    return np.setdiff1d(ids, np.concatenate(held), assume_unique=False) if held else ids


def gather(catalogue: Catalogue, store: Store, series: Series, embedder: Embedder, tell: Progress) -> int:
    """Embed what the series lacks, in committed batches; how many chunks. For the migration's lock.

    Raises `MigrationRefused` when a chunk is longer than the embedder's window: cut off, it would be
    found by its beginning only.
    """
    folder = stores_folder(catalogue.data, store.id) / series_folder(series)
    named = (segment.id.rpartition("/")[2] for segment in catalogue.segments(series))
    sweep(folder, frozenset(named))
    lacking = missing(catalogue, series)
    _refuse_long(catalogue, store, lacking, embedder)
    for at in range(0, len(lacking), BATCH_CHUNKS):
        _add(catalogue, store, series, embedder, lacking[at : at + BATCH_CHUNKS])
        merge_when_many(catalogue, store, series)
        tell(min(at + BATCH_CHUNKS, len(lacking)), len(lacking))
    return len(lacking)


def texts(catalogue: Catalogue, ids: Ids, embedder: Embedder) -> dict[int, str]:
    """What is embedded of these chunks; those that left the catalogue meanwhile are left out."""
    return {row: said.embedded(embedder) for row, said in _said(catalogue, ids).items()}


def _add(catalogue: Catalogue, store: Store, series: Series, embedder: Embedder, ids: Ids) -> None:
    found = texts(catalogue, ids, embedder)
    ids = np.array(sorted(found), dtype=np.int64)
    if not len(ids):
        return
    order = sorted(range(len(ids)), key=lambda at: -len(found[int(ids[at])]))  # padded to the longest
    vectors = np.empty((len(ids), series.dimension), dtype=np.float32)
    vectors[order] = embedder.passages([found[int(ids[at])] for at in order])
    name = fresh_name(store, series)
    place = stores_folder(catalogue.data, store.id) / name
    about = describe(store, series, len(ids))
    digests = write_segment(place.parent, place.name, ids, vectors, indexed_texts(catalogue, ids), about)
    with writing(catalogue.engine) as connection:
        stores = schema.stores
        known = sa.select(stores.c.generation).where(stores.c.id == store.id, stores.c.deleted_at.is_(None))
        number = connection.execute(known).scalar()
        if number is None:
            raise UnknownStore(f"store '{store.name}' was deleted meanwhile")
        add_segment(connection, series, name, ids, digests, number)


def _refuse_long(catalogue: Catalogue, store: Store, ids: Ids, embedder: Embedder) -> None:
    if isinstance(embedder, Windowed):
        return  # it takes any length: static chunks are longer than the window by their owner's choice
    long: list[tuple[int, str]] = []
    for at in range(0, len(ids), BATCH_CHUNKS):
        said = list(_said(catalogue, ids[at : at + BATCH_CHUNKS]).values())
        counts = embedder.count([each.embedded(embedder) for each in said])
        pairs = zip(counts, said, strict=True)
        long += [(many, each.key) for many, each in pairs if many > embedder.max_tokens]
    if long:
        tokens, key = max(long)
        raise MigrationRefused(
            f"{len(long)} of {len(ids)} chunks of store '{store.name}' are longer than the "
            f"{embedder.max_tokens} tokens that {embedder.name} takes, {key} has {tokens}: "
            f"ingest the files into a new store with --embedder {embedder.name}, where they are cut to fit"
        )


def _said(catalogue: Catalogue, ids: Ids) -> dict[int, Said]:
    chunks, documents = schema.chunks, schema.documents
    columns = (chunks.c.key, documents.c.title, chunks.c.text, chunks.c.headings, chunks.c.lead)
    query = sa.select(chunks.c.id, *columns).join(documents)
    found: dict[int, Said] = {}
    with catalogue.engine.connect() as connection:
        for at in range(0, len(ids), _MANY):
            rows = connection.execute(query.where(chunks.c.id.in_(ids[at : at + _MANY].tolist())))
            found.update((row.id, Said(row.key, row.title, row.text, row.headings, row.lead)) for row in rows)
    return found
