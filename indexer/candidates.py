"""From ranked ids to hits: read from the catalogue, read again, spread out, capped."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import sqlalchemy as sa

from indexer.diversity import spread
from indexer.fusion import calibrate
from indexer.lookup import Passage, passages
from indexer.passages import indexed
from indexer.records import Hit
from indexer.seams import Reranker
from indexer.snapshots import Snapshot, vectors_of

MOST = 50  # candidates that are read again, or told apart


class Candidate(NamedTuple):
    """A chunk that may become a hit."""

    id: int
    passage: Passage
    evidence: float  # probability of relevance


def candidates(
    engine: sa.Engine,
    ranked: Sequence[tuple[int, float]],
    numbers: Mapping[str, int],
    wanted: int,
    lost: list[int],
) -> Iterator[Candidate]:
    """Those that the catalogue still has, each passage once, however many of its chunks matched.

    Read as they are asked for: `wanted` at first, then twice as many at a time. `lost` takes the ids of
    the others: of a generation that is still whole there are none.
    """
    seen: set[tuple[int, int, int]] = set()
    bounds = [0, *range(wanted, len(ranked), 2 * wanted), len(ranked)]
    for start, stop in pairwise(bounds):
        some = ranked[start:stop]
        found = passages(engine, [row for row, _ in some], numbers)
        lost += [row for row, _ in some if row not in found]
        for row, evidence in some:
            passage = found.get(row)
            if passage is not None and (place := passage.place) not in seen:
                seen.add(place)
                yield Candidate(row, passage, evidence)


def reranked(reranker: Reranker, query: str, pool: Sequence[Candidate]) -> list[Candidate]:
    """The best by the reranker's judgement; the rest after them, never scored above."""
    again, rest = pool[:MOST], pool[MOST:]
    rows = [one.passage.row for one in again]
    judged = reranker.scores(query, [indexed(row.title, row.text) for row in rows])
    pairs = sorted(zip(judged, again, strict=True), key=lambda pair: -pair[0])
    least = pairs[-1][0] if pairs else 1.0
    return [one._replace(evidence=score) for score, one in pairs] + [
        one._replace(evidence=min(least, one.evidence)) for one in rest
    ]


def unlike(
    pool: Sequence[Candidate], held: Sequence[Snapshot], diversity: float, threshold: float
) -> list[Candidate]:
    """The pool less what scores below the threshold, in order of marginal relevance."""
    scores = calibrate([one.evidence for one in pool])
    passing = [
        one._replace(evidence=score) for one, score in zip(pool, scores, strict=True) if score >= threshold
    ]
    rows = vectors_of(held, [one.id for one in passing])
    order = spread([one.evidence for one in passing], rows, 1 - diversity, len(passing))
    return [passing[at] for at in order]


def capped(found: Iterable[Candidate], per_file: int) -> Iterator[Candidate]:
    """At most so many of one document."""
    taken: Counter[int] = Counter()
    for one in found:
        document = one.passage.row.document_id
        taken[document] += 1
        if taken[document] <= per_file:
            yield one


def as_hit(passage: Passage, score: float) -> Hit:
    """The hit as callers see it."""
    row = passage.row
    return Hit(
        chunk_id=row.key,
        file_id=row.upload_id or row.file_id,
        external_id=row.external_id,
        store_id=row.store_id,
        filename=row.filename,
        title=row.title or row.filename,
        text=passage.text,
        score=score,
        page_start=passage.page_start,
        page_end=passage.page_end,
        char_start=passage.char_start,
        char_end=passage.char_end,
        attributes={**row.attributes, **row.file_attributes},
        headings=tuple(row.headings),
        lead=row.lead,
    )
