"""Does what is on disk agree with the catalogue? Findings, one sentence each."""

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.errors import StoreDamaged
from indexer.records import Generation, Store
from indexer.segments import open_segment


def findings(catalogue: Catalogue, store: Store) -> Iterator[str]:
    """Everything wrong with a store: digests, catalogue = vectors = keywords, offsets, counts."""
    generation = catalogue.generation(store.id)
    held: Counter[int] = Counter()
    for segment in generation.segments:
        try:
            opened = open_segment(catalogue.data, segment, store.dimension, thorough=True)
        except StoreDamaged as error:
            yield str(error)
            continue
        vectors, keywords = opened.vectors.ids.tolist(), opened.keywords.ids().tolist()
        held.update(vectors)
        if sorted(vectors) != keywords:
            yield f"segment {segment.id}: {len(vectors)} vectors and {len(keywords)} keyword entries differ"
        if len(vectors) != segment.chunks:
            yield f"segment {segment.id}: {len(vectors)} vectors, the catalogue says {segment.chunks}"
    yield from _against_catalogue(catalogue, store, generation, held)
    yield from _texts(catalogue, store)


def _against_catalogue(
    catalogue: Catalogue, store: Store, generation: Generation, held: Counter[int]
) -> Iterator[str]:
    chunks, generations = schema.chunks, schema.generations
    with catalogue.engine.connect() as connection:
        rows = connection.execute(sa.select(chunks.c.id).where(chunks.c.store_id == store.id))
        known = set(rows.scalars())
        counted = connection.execute(
            sa.select(generations.c.chunks).where(
                generations.c.store_id == store.id, generations.c.number == generation.number
            )
        ).scalar()
    live = known - generation.dead
    if missing := live - held.keys():
        yield f"{len(missing)} chunks of the catalogue are in no segment, first {min(missing)}"
    if unknown := held.keys() - known:
        yield f"{len(unknown)} ids of segments are not in the catalogue, first {min(unknown)}"
    if twice := [row for row, times in held.items() if times > 1]:
        yield f"{len(twice)} chunks are in two segments, first {min(twice)}"
    if generation.number and counted != len(live):
        yield f"generation {generation.number} was published with {counted} chunks and has {len(live)}"


def _texts(catalogue: Catalogue, store: Store) -> Iterator[str]:
    chunks, documents = schema.chunks, schema.documents
    length = chunks.c.char_end - chunks.c.char_start
    said = sa.func.substr(documents.c.text, chunks.c.char_start + 1, length)
    query = (
        sa.select(sa.func.count())
        .select_from(chunks)
        .join(documents)
        .where(chunks.c.store_id == store.id, chunks.c.died.is_(None), said != chunks.c.text)
    )
    with catalogue.engine.connect() as connection:
        wrong = connection.execute(query).scalar_one()
    if wrong:
        yield f"{wrong} chunks do not stand where their offsets say"
