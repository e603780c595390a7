"""Two arms over the same items, once: McNemar, sign flips, intervals, Holm's correction; and one arm alone.

For a look at the end, of a data set that is not added to. Live traffic has `sequences` and `eprocess`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # 95 %
RESAMPLES = 5000
FLIPS = 20_000
SEED = 7
Scores = NDArray[np.float64]


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


class McNemar(NamedTuple):
    only_first: int  # items that only the first has right
    only_second: int
    difference: Interval  # of accuracies, first − second
    p: float  # exact, two-sided


def wilson(successes: int, items: int) -> Interval:
    """A share with its 95 % interval (Wilson 1927); NaN without items."""
    if not items:
        return Interval(math.nan, math.nan, math.nan)
    share, more = successes / items, Z * Z / items
    middle = (share + more / 2) / (1 + more)
    half = Z / (1 + more) * math.sqrt(share * (1 - share) / items + more / (4 * items))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mcnemar(first: Sequence[float] | Scores, second: Sequence[float] | Scores) -> McNemar:
    """Whether one of two arms has more of the same items right; both hold 0 or 1.

    p = min(1, 2·P[Bin(b+c, ½) ≤ min(b, c)]); the difference is (b−c)/n ± 1.96·sqrt(b+c−(b−c)²/n)/n.
    """
    one, other = np.asarray(first, bool), np.asarray(second, bool)
    n, b, c = len(one), int((one & ~other).sum()), int((other & ~one).sum())
    if not n:
        return McNemar(0, 0, Interval(math.nan, math.nan, math.nan), 1.0)
    half = Z * math.sqrt(b + c - (b - c) ** 2 / n) / n
    difference = (b - c) / n
    tail = sum(math.comb(b + c, at) for at in range(min(b, c) + 1))
    return McNemar(
        b, c, Interval(difference, difference - half, difference + half), min(1.0, 2 * tail / 2 ** (b + c))
    )


def sign_flip(
    first: Sequence[float] | Scores, second: Sequence[float] | Scores, *, flips: int = FLIPS
) -> float:
    """Two-sided p that two arms score the same items alike: Fisher's randomisation test, for graded scores.

    Under that hypothesis the sign of an item's difference is a coin's; p is the share of `flips` draws whose
    sum is as far from 0 as what was seen, itself counted.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    seen = abs(difference.sum()) - 1e-9  # sums of the same terms differ in the last digits
    rng, as_far, done = np.random.default_rng(SEED), 0, 0
    while done < flips:
        count = min(1_000, flips - done)
        signs = rng.integers(0, 2, (count, len(difference))) * 2.0 - 1
        as_far += int((np.abs(signs @ difference) >= seen).sum())
        done += count
    return (1 + as_far) / (1 + flips)


def mean_interval(scores: Sequence[float] | Scores, less: Sequence[float] | Scores | None = None) -> Interval:
    """The mean of scores, or of paired differences, with its 95 % bootstrap interval over items."""
    table = np.asarray(scores, dtype=np.float64)
    if less is not None:
        table = table - np.asarray(less, dtype=np.float64)
    if not len(table):
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(SEED)
    means = [table[rng.integers(len(table), size=len(table))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(table.mean()), float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p corrected for there being several claims (Holm 1979), in the order given."""
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = running
    return corrected
