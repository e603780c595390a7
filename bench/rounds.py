"""Interleaved rounds and what may be concluded from them (performance.md §3.3).

A round measures every arm twice, there and back: A B B A, the next one B A A B. Whatever drifts slowly meets
all arms alike, and the two samples of one arm tell how much the machine alone makes of nothing.
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
SEED = 11

Sample = Callable[[], Awaitable[float]]

LEAST_ROUNDS = 2  # fewer tell nothing of their spread
_ends: ContextVar[float] = ContextVar("ends", default=math.inf)  # time.monotonic()


class Interval(NamedTuple):
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The same in another unit; `factor` is above 0."""
        return Interval(*(factor * part for part in self))


class Pair(NamedTuple):
    """One arm's two samples of one round."""

    first: float
    second: float

    @property
    def mean(self) -> float:
        return (self.first + self.second) / 2


Rounds = Mapping[str, Sequence[Pair]]


def order(arms: Sequence[str], number: int) -> list[str]:
    """The arms of round `number`, there and back; every other round begins at the other end."""
    there = list(arms) if number % 2 == 0 else list(reversed(arms))
    return there + there[::-1]


@contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Within, no round is begun that would, lasting as long as the one before, end later than in `seconds`.

    For a machine that is held for a time: what is cut off from without loses all it had measured.
    """
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


async def interleave(
    arms: Mapping[str, Sample], count: int, say: Callable[[str], object] = lambda _: None
) -> dict[str, list[Pair]]:
    """`count` rounds over the arms; each sample is one positive number.

    Fewer, but LEAST_ROUNDS at least, where time is up before (`ending_after`): look how many there are.
    """
    rounds: dict[str, list[Pair]] = {name: [] for name in arms}
    for number in range(count):
        began = time.monotonic()
        samples: dict[str, list[float]] = {name: [] for name in arms}
        for name in order(list(arms), number):
            samples[name].append(await arms[name]())
        for name, pair in samples.items():
            rounds[name].append(Pair(*pair))
        said = ", ".join(f"{name} {pair[-1].mean:.4g}" for name, pair in rounds.items())
        say(f"round {number + 1} of {count}: {said}")
        now = time.monotonic()
        if LEAST_ROUNDS <= number + 1 < count and now + (now - began) > _ends.get():
            say(f"time is up: {number + 1} rounds instead of {count}")
            break
    return rounds


def how_many(rounds: Rounds) -> str:
    """How many there were, in words."""
    count = len(next(iter(rounds.values())))
    return f"{count} round{'' if count == 1 else 's'}"


def ratio(rounds: Rounds, over: str, under: str) -> Interval:
    """`over` ÷ `under`, paired by round."""
    pairs = zip(rounds[over], rounds[under], strict=True)
    return estimate([mine.mean / theirs.mean for mine, theirs in pairs])


def difference(rounds: Rounds, over: str, under: str) -> Interval:
    """`over` − `under`, paired by round, in their own unit."""
    pairs = zip(rounds[over], rounds[under], strict=True)
    values = np.asarray([mine.mean - theirs.mean for mine, theirs in pairs])
    return _interval(values)


def noise(rounds: Rounds, arm: str) -> Interval:
    """The arm against itself: second sample ÷ first. 1 but for the machine."""
    return estimate([pair.second / pair.first for pair in rounds[arm]])


def floor(rounds: Rounds, *arms: str) -> float:
    """The distance from 1 below which no ratio of these arms may be claimed."""
    return max(max(abs(noisy.low - 1), abs(noisy.high - 1)) for noisy in (noise(rounds, arm) for arm in arms))


def level(rounds: Rounds, arm: str) -> Interval:
    """The arm's own value over all rounds."""
    return estimate([pair.mean for pair in rounds[arm]])


def estimate(values: Sequence[float]) -> Interval:
    """Centre of positive values, with the 2.5 and 97.5 % points of it over resampled rounds."""
    found = _interval(np.log(np.asarray(values, dtype=np.float64)))
    return Interval(*(float(np.exp(part)) for part in found))


def _interval(values: NDArray[np.float64]) -> Interval:
    drawn = np.random.default_rng(SEED).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(_centre(values[drawn]), [0.025, 0.975])
    return Interval(float(_centre(values[None])[0]), float(low), float(high))


def _centre(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of all pairwise means of each row (Hodges, Lehmann 1963).

    As deaf to outliers as a round of a busy machine demands, and with few rounds steadier than the median.
    """
    left, right = np.triu_indices(logs.shape[1])
    return np.asarray(np.median((logs[:, left] + logs[:, right]) / 2, axis=1))
