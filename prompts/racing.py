"""Racing: which of many candidates is best, at a fraction of the price of scoring them all in full.

All live candidates see the same shuffled items, a few at a time; one is dropped as soon as another is
sequentially proven better. The best survives with probability at least 1 − delta, whatever led on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln

from prompts.analysis.sequences import LEAST_UNITS, one_sided_width

FIRST, STEP = 20, 10  # items before the first look, and between looks

Ask = Callable[[Sequence[int], Sequence[int]], ArrayLike]
"""(candidates, items) → scores, shape (items, candidates): 0 or 1, or graded."""


@dataclass(frozen=True, slots=True)
class Race:
    scores: NDArray[np.float64]  # (items, candidates); NaN where a candidate was not asked
    live: tuple[int, ...]  # who was not dropped, in the order of the candidates
    dropped: dict[int, int]  # candidate → items it had seen
    asked: int  # scores paid for

    @property
    def leader(self) -> int:
        """Of those that are live, the best mean over the items that all of them saw; ties: the first."""
        live = list(self.live)
        seen = ~np.isnan(self.scores[:, live]).any(axis=1)
        return live[int(self.scores[seen][:, live].mean(axis=0).argmax())] if seen.any() else live[0]


def race(
    ask: Ask, candidates: int, items: Sequence[int], *, delta: float = 0.05, most_asked: int | None = None
) -> Race:
    """Race `candidates` over `items` in their order, until one is left or `most_asked` scores are paid for.

    In round r of a search that restarts with its incumbent, pass delta / (r (r + 1)).
    """
    scores = np.full((len(items), candidates), np.nan)
    live, dropped, asked, at = list(range(candidates)), dict[int, int](), 0, 0
    while at < len(items) and len(live) > 1:
        end = min(len(items), at + (STEP if at else FIRST))
        cost = len(live) * (end - at)
        if most_asked is not None and asked + cost > most_asked:
            break
        scores[at:end, live] = ask(live, list(items[at:end]))
        asked, at = asked + cost, end
        lost = losers(scores[:at, live], len(items), delta / (candidates - 1))
        dropped |= {live[k]: at for k in np.flatnonzero(lost)}
        live = [candidate for candidate, gone in zip(live, lost, strict=True) if not gone]
    return Race(scores, tuple(live), dropped, asked)


def losers(scores: NDArray[np.float64], most_items: int, delta: float) -> NDArray[np.bool_]:
    """Who is beaten by another; scores of shape (items, candidates), all seen by all."""
    if np.isin(scores, (0.0, 1.0)).all():
        only = scores.T @ (1 - scores)  # [j, k]: items that j has right and k has not
        beaten = log_e(only, only.T) >= -np.log(delta)
    else:
        beaten = _graded(scores, most_items, delta)
    np.fill_diagonal(beaten, False)
    lost: NDArray[np.bool_] = beaten.any(axis=0)
    return lost if not lost.all() else np.zeros_like(lost)


def log_e(only_j: ArrayLike, only_k: ArrayLike) -> NDArray[np.float64]:
    """ln E that j is better than k: a sequential one-sided McNemar test, uniform prior on (½, 1).

    E = 2^(b+c+1) B(b+1, c+1) (1 − I_½(b+1, c+1)), b and c the items that only j, only k has right.
    """
    b, c = np.asarray(only_j, float), np.asarray(only_k, float)
    with np.errstate(divide="ignore"):
        tail = np.log(betaincc(b + 1, c + 1, 0.5))
    value: NDArray[np.float64] = (b + c + 1) * np.log(2) + betaln(b + 1, c + 1) + tail
    return value


def _graded(scores: NDArray[np.float64], most_items: int, delta: float) -> NDArray[np.bool_]:
    """Graded scores: the one-sided sequence on paired differences."""
    n, k = scores.shape
    if n < LEAST_UNITS:
        return np.zeros((k, k), bool)
    covariance = np.cov(scores, rowvar=False)
    variances = np.diag(covariance)
    of_difference = np.maximum(variances[:, None] + variances[None, :] - 2 * covariance, 0)
    means = scores.mean(axis=0)
    width = one_sided_width(np.sqrt(of_difference / n), n, delta, most_items)
    beaten: NDArray[np.bool_] = means[:, None] - means[None, :] > np.maximum(width, 1e-12)
    return beaten
