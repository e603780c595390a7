"""Two rankings to one, and scores that mean something.

Order: a weighted sum of both legs' scores, each divided by its own best (a convex combination:
Bruch, Gai, Ingber 2023). The weight of the dense leg falls with the doubt that it knows anything
about this question, so that it cannot drag down a keyword leg that does. Reciprocal ranks cannot
express that doubt. The best of the sum are then read: half of what the keyword leg weighs goes to how
closely a text follows the question's wording. docs/decisions/0111-indexer-fusion.md has the measurements.
Score: the probability of relevance fitted on 14 judged collections, made to follow the order.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.records import Ranked

FEW = 64  # chunks; of fewer, the scores' distribution says nothing
READ = 64  # of the best that are read
_LEAST_CLOSE = 0.1  # closeness that a best text must have to count as fully close
_LEAST_MET = 0.15  # share of the query a best keyword match must meet to count as a full match
_STEP = 1e-6  # scores differ at least by this


class Background(NamedTuple):
    """How the question's cosines are distributed over everything searched."""

    mean: float
    deviation: float
    chunks: int


class Dense(NamedTuple):
    """The dense leg: cosines, their background, and the embedder's grasp of the question, 0..1.

    The last two decide what the leg weighs beside the other; alone, it needs neither.
    """

    ranked: Ranked
    background: Background = Background(0.0, 0.0, 0)
    grasp: float = 1.0


class Keyword(NamedTuple):
    """The keyword leg: BM25 scores, and the most that any text could score."""

    ranked: Ranked
    most: float


def fuse(
    dense: Dense | None,
    keyword: Keyword | None,
    weights: tuple[float, float] = (1.0, 1.0),
    read: Callable[[Sequence[int]], Mapping[int, float]] | None = None,
) -> list[tuple[int, float]]:
    """(id, probability of relevance) best first; equal sums by id, so that order is never chance.

    `weights` (dense, keyword; above 0) move the order towards a leg; equal ones leave it. `read` is
    asked, where there are both legs, for the closeness (0..1) of the best `READ` ids to the question.
    """
    if keyword is None and dense is not None:  # its own order, by cosine and then by id
        chances = _logistics(-5.7 + 8.9 * np.array(dense.ranked.scores, dtype=np.float64))
        return list(zip(dense.ranked.ids, chances, strict=True))
    lean = weights[0] / sum(weights)  # 1/2 where nobody leans
    near: dict[int, float] = {}
    cosines, trust = {}, 0.0
    if dense is not None and dense.ranked.ids:
        trust = dense.grasp * standing(dense.ranked.scores[0], dense.background)
        cosines = dict(zip(dense.ranked.ids, dense.ranked.scores, strict=True))
        span = max(dense.ranked.scores[0] - dense.background.mean, 1e-6)
        near = {
            row: lean * trust * (cosine - dense.background.mean) / span for row, cosine in cosines.items()
        }
    met: dict[int, float] = {}
    shares: dict[int, float] = {}
    worded = (1 - lean) * (2 - trust)
    if keyword is not None and keyword.ranked.ids:
        best = max(keyword.ranked.scores[0], _LEAST_MET * keyword.most)
        for row, score in zip(keyword.ranked.ids, keyword.ranked.scores, strict=True):
            shares[row] = score / keyword.most
            met[row] = worded * score / best
    sums = {row: near.get(row, 0.0) + met.get(row, 0.0) for row in near.keys() | met.keys()}
    order = sorted(sums, key=lambda row: (-sums[row], row))
    if dense is None:
        return [(row, _logistic(-3.7 + 10.4 * shares[row])) for row in order]
    floor = min(cosines.values(), default=0.0)  # an id the dense leg left out is not above it
    if read is None or not order:
        return [(row, relevance(cosines.get(row, floor), trust, shares.get(row, 0.0))) for row in order]
    close = read(order[:READ])
    full = max(_LEAST_CLOSE, max(close.values(), default=0.0))
    for row, closeness in close.items():
        sums[row] = near.get(row, 0.0) + met.get(row, 0.0) / 2 + worded / 2 * closeness / full
    best_first = sorted(close, key=lambda row: (-sums[row], row))
    best_first += [row for row in order if row not in close]
    least = min(close.values(), default=0.0)  # nor is one that was not read closer than those
    # Hundreds of them, of which a search shows ten: in one go, not one by one.
    evidence = -2.85 + trust * (5.4 * np.array([cosines.get(row, floor) for row in best_first]) - 3.4)
    evidence += 3.0 * np.array([shares.get(row, 0.0) for row in best_first])
    evidence += 10.0 * np.array([close.get(row, least) for row in best_first])
    return list(zip(best_first, _logistics(evidence), strict=True))


def standing(best: float, background: Background) -> float:
    """Trust in a leg, 0..1, by how far its best stands out from what chance would give.

    The largest of n draws from a normal distribution lies near sqrt(2 ln n) deviations; a leg that
    knows the answer has a hit beyond that, one that knows nothing has not.
    """
    if background.chunks < FEW or background.deviation <= 0:
        return 1.0
    deviations = (best - background.mean) / background.deviation
    return _logistic(2 * (deviations - math.sqrt(2 * math.log(background.chunks)) + 0.5))


def relevance(cosine: float, trust: float, share: float) -> float:
    """Probability that a chunk with this evidence is relevant, where nothing was read.

    A logistic regression on the ten best hits of up to 200 questions of each of 14 judged collections; what
    was read has one of its own, in `fuse`.
    """
    return _logistic(-2.65 + trust * (4.5 * cosine - 2.6) + 8.0 * share)


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


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-40.0, min(40.0, value))))


def merged(answers: Sequence[Sequence[tuple[int, float]]]) -> Sequence[tuple[int, float]]:
    """One ranking of those of several models, whose cosines mean different things: by probability."""
    if len(answers) == 1:
        return answers[0]
    pairs: list[tuple[float, int]] = []
    for answer in answers:
        scores = calibrate([evidence for _, evidence in answer])
        pairs.extend((-score, row) for (row, _), score in zip(answer, scores, strict=True))
    return [(row, -score) for score, row in sorted(pairs)]


def _logistics(values: NDArray[np.float64]) -> list[float]:
    chances: list[float] = (1.0 / (1.0 + np.exp(-np.clip(values, -40.0, 40.0)))).tolist()
    return chances
