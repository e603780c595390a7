"""Two rankings to one, and scores that mean something.

Order: reciprocal rank fusion (Cormack, Clarke, Büttcher 2009), each leg weighted by how far it
can be trusted with this query. Score: the legs' own evidence, made to follow that order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.records import Ranked

CONSTANT = 60  # of reciprocal rank fusion; the paper's value
_STEP = 1e-6  # scores differ at least by this


@dataclass(frozen=True, slots=True)
class Leg:
    """A ranking, the evidence 0..1 for each of its ids, and the trust in it, 0..1."""

    ranked: Ranked
    evidence: tuple[float, ...]
    trust: float = 1.0


def fuse(legs: Sequence[Leg]) -> list[tuple[int, float]]:
    """(id, evidence) best first; equal sums by id, so that the order never depends on chance."""
    sums: dict[int, float] = {}
    doubts: dict[int, float] = {}
    for leg in legs:
        if leg.trust <= 0:
            continue
        for rank, (row, evidence) in enumerate(zip(leg.ranked.ids, leg.evidence, strict=True), start=1):
            sums[row] = sums.get(row, 0.0) + leg.trust / (CONSTANT + rank)
            doubts[row] = doubts.get(row, 1.0) * (1.0 - leg.trust * evidence)
    order = sorted(sums, key=lambda row: (-sums[row], row))
    return [(row, 1.0 - doubts[row]) for row in order]


def calibrate(evidence: Sequence[float]) -> list[float]:
    """Scores 0..1, six decimals, strictly decreasing, as near to the evidence as the order allows.

    Isotonic regression (pool adjacent violators) and then a step between equals.
    """
    blocks: list[tuple[float, int]] = []  # mean, size
    for value in evidence:
        mean, size = min(1.0, max(0.0, value)), 1
        while blocks and blocks[-1][0] < mean:
            before, many = blocks.pop()
            mean, size = (before * many + mean * size) / (many + size), many + size
        blocks.append((mean, size))
    smooth = [mean for mean, size in blocks for _ in range(size)]
    units = round(1 / _STEP)
    scores: list[int] = []
    for at, value in enumerate(smooth):
        room = units if at == 0 else scores[-1] - 1
        scores.append(max(len(smooth) - 1 - at, min(room, round(value * units))))
    return [score / units for score in scores]


def dense_evidence(cosines: Sequence[float]) -> tuple[float, ...]:
    """Cosines to 0..1: a logistic curve through 0.5 at cosine 0.4."""
    return tuple(1.0 / (1.0 + math.exp(-(cosine - 0.4) / 0.1)) for cosine in cosines)


def keyword_evidence(scores: Sequence[float], most: float) -> tuple[float, ...]:
    """BM25 to 0..1: the share of the query's weight that was met."""
    return tuple(min(1.0, score / most) if most > 0 else 0.0 for score in scores)


def spread(
    rows: Sequence[tuple[int, float]], owner: Mapping[int, object], most: int
) -> list[tuple[int, float]]:
    """At most `most` rows of each owner, in the order given."""
    taken: dict[object, int] = {}
    kept = []
    for row, evidence in rows:
        taken[owner[row]] = taken.get(owner[row], 0) + 1
        if taken[owner[row]] <= most:
            kept.append((row, evidence))
    return kept
