"""What a benchmark has to say: bars, checks, arms, and one result of them all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.rounds import Interval, Rounds

Verdict = Literal["met", "missed", "invalid", "reported"]  # reported: a figure without a bar on this machine
EXIT_CODES: Mapping[Verdict, int] = {"met": 0, "reported": 0, "missed": 1, "invalid": 2}


class NotMeasured(Exception):
    """There are no figures; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One figure against its limit; met by the worse end of its interval."""

    name: str
    measured: Interval
    unit: str = ""
    sense: Literal["at most", "at least"] = "at most"
    must: float | None = None
    moon: float | None = None
    resolution: float = 0.0  # a limit nearer to 1 than this cannot be judged: the noise floor of a ratio

    @property
    def verdict(self) -> Verdict:
        if self.must is None:
            return "reported"
        if 0 < abs(self.must - 1) < self.resolution:
            return "invalid"
        return "met" if self.reaches(self.must) else "missed"

    def reaches(self, limit: float) -> bool:
        return self.measured.high <= limit if self.sense == "at most" else self.measured.low >= limit


@dataclass(frozen=True, slots=True)
class Check:
    """A condition without which the figures mean nothing."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points of the plot: one line of it."""

    name: str
    x: Sequence[float]
    y: Sequence[Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    x: str
    y: str
    curves: Sequence[Curve]
    limit: float | None = None


def by_round(rounds: Rounds, y: str, limit: float | None = None) -> Plot:
    """A curve for each arm: its two samples of every round as mean, lower and higher one."""
    return Plot(
        x="round",
        y=y,
        curves=[
            Curve(
                name=name,
                x=list(range(1, len(pairs) + 1)),
                y=[Interval(pair.mean, min(pair), max(pair)) for pair in pairs],
            )
            for name, pairs in rounds.items()
        ],
        limit=limit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One goal, measured."""

    goal: str
    title: str
    workload: str
    bars: Sequence[Bar]
    ratio: Interval | None
    noise_floor: float
    rounds: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    checks: Sequence[Check]
    machine: Mapping[str, Any]
    plot: Plot
    notes: Sequence[str] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """The worst of the bars; whatever they say, nothing where a check failed."""
        if not all(check.passed for check in self.checks):
            return "invalid"
        found = {bar.verdict for bar in self.bars}
        ranked: tuple[Verdict, ...] = ("invalid", "missed", "met")
        return next((verdict for verdict in ranked if verdict in found), "reported")
