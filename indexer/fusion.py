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
from operator import ge
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
    Evidence is log-odds by logistic regressions on the ten best hits of up to 200 questions of each of 14
    judged collections: one for each leg alone, one for both, and one for both where the best were read.
    """
    if keyword is None and dense is not None:  # its own order, by cosine and then by id
        chances = _logistics(-5.7 + 8.9 * np.array(dense.ranked.scores, dtype=np.float64))
        return list(zip(dense.ranked.ids, chances, strict=True))
    # Arrays over all candidates, in order of their ids: hundreds, of which a search shows ten.
    legs = [leg.ranked.ids for leg in (dense, keyword) if leg is not None]
    rows, at = np.unique(np.array([row for leg in legs for row in leg], dtype=np.int64), return_inverse=True)
    in_dense = at[: len(legs[0])] if dense is not None else at[:0]
    in_keyword = at[len(in_dense) :]
    lean = weights[0] / sum(weights)  # 1/2 where nobody leans
    near, met, shares = np.zeros((3, len(rows)))
    cosines, trust = np.zeros(len(rows)), 0.0
    if dense is not None and dense.ranked.ids:
        trust = dense.grasp * standing(dense.ranked.scores[0], dense.background)
        cosines += min(dense.ranked.scores)  # an id the dense leg left out is not above it
        cosines[in_dense] = dense.ranked.scores
        mean = dense.background.mean
        span = max(dense.ranked.scores[0] - mean, 1e-6)
        near[in_dense] = lean * trust * (cosines[in_dense] - mean) / span
    worded = (1 - lean) * (2 - trust)
    if keyword is not None and keyword.ranked.ids:
        scores = np.array(keyword.ranked.scores, dtype=np.float64)
        shares[in_keyword] = scores / keyword.most
        met[in_keyword] = worded * scores / max(scores[0], _LEAST_MET * keyword.most)
    order = np.argsort(-(near + met), kind="stable")  # equal ones by id
    if dense is None:
        evidence = -3.7 + 10.4 * shares
    elif read is None or not len(order):
        evidence = -2.65 + trust * (4.5 * cosines - 2.6) + 8.0 * shares
    else:
        first = np.sort(order[:READ])
        close = read(rows[order[:READ]].tolist())
        told = np.array([row in close for row in rows[first].tolist()], dtype=np.bool_)
        there, closeness = first[told], np.array([close[row] for row in rows[first[told]].tolist()])
        full = max(_LEAST_CLOSE, closeness.max(initial=0.0))
        sums = near[there] + met[there] / 2 + worded / 2 * closeness / full
        read_first = there[np.argsort(-sums, kind="stable")]
        order = np.concatenate([read_first, order[~np.isin(order, there)]])
        closes = np.full(len(rows), closeness.min(initial=math.inf) if len(there) else 0.0)
        closes[there] = closeness  # one that was not read is not closer than those
        evidence = -2.85 + trust * (5.4 * cosines - 3.4) + 3.0 * shares + 10.0 * closes
    return list(zip(rows[order].tolist(), _logistics(evidence[order]), strict=True))


def certain(ranked: Sequence[tuple[int, float]], asked: int) -> Sequence[tuple[int, float]]:
    """Of the best `asked`, those that come first however many are asked for.

    Equals of the last one may be missing: which of them were taken is chance.
    """
    if len(ranked) < asked:
        return ranked
    last, many = ranked[-1][1], len(ranked)
    while many and ranked[many - 1][1] == last:
        many -= 1
    return ranked[:many]


def standing(best: float, background: Background) -> float:
    """Trust in a leg, 0..1, by how far its best stands out from what chance would give.

    The largest of n draws from a normal distribution lies near sqrt(2 ln n) deviations; a leg that
    knows the answer has a hit beyond that, one that knows nothing has not.
    """
    if background.chunks < FEW or background.deviation <= 0:
        return 1.0
    deviations = (best - background.mean) / background.deviation
    return _logistic(2 * (deviations - math.sqrt(2 * math.log(background.chunks)) + 0.5))


def calibrate(evidence: Sequence[float]) -> list[float]:
    """Scores 0..1, six decimals, strictly decreasing, as near to the evidence as the order allows.

    Isotonic regression (pool adjacent violators) and then a step between equals.
    """
    smooth = [min(1.0, max(0.0, value)) for value in evidence]
    if not all(map(ge, smooth, smooth[1:])):
        blocks: list[tuple[float, int]] = []  # mean, size
        for mean in smooth:
            size = 1
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
    within = np.minimum(np.maximum(values, -40.0), 40.0)  # `np.clip` takes as long as all the rest
    chances: list[float] = (1.0 / (1.0 + np.exp(-within))).tolist()
    return chances
