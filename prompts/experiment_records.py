"""What an experiment is made of: its file, its arms, what is frozen at its start, who met what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from prompts.records import DemoPolicy, Sampling

UnitKind = Literal["user", "conversation", "request"]
Mode = Literal["fixed", "thompson"]
MetricKind = Literal["binary", "continuous", "ratio"]
PerUnit = Literal["last", "any", "mean", "sum"]
Missing = Literal["failure", "exclude"]
Better = Literal["higher", "lower"]
Failing = Literal["fail", "control"]
Comparison = Literal["", ">", ">=", "<", "<=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How an arm searches. None: the request, the template or the settings decide."""

    store: str | None = None
    top: int | None = None
    rerank: bool | None = None
    generation: str | None = None  # "pinned": the one of the experiment's start; None: the newest


@dataclass(frozen=True, slots=True)
class Arm:
    """A recipe: everything that may differ between two ways to answer the same request."""

    name: str
    weight: float  # share of the enrolled units, 0..1
    template: str  # an exact name@version
    static: DemoPolicy | None = None  # None: the template's own
    dynamic: DemoPolicy | None = None
    pool: str | None = None  # name@version
    retrieval: Retrieval = field(default_factory=Retrieval)
    adapter: str = ""  # name@version; "": the base model
    sampling: Sampling = field(default_factory=Sampling)
    on_failure: Failing = "fail"  # control: served the control arm, counted here all the same
    digest: str = ""  # sha256 of the declared recipe, the weight left out


@dataclass(frozen=True, slots=True)
class Measure:
    """Where a number comes from: a field of a logged turn, perhaps compared with a limit."""

    source: Literal["feedback", "request", "covariates"]
    field: str
    comparison: Comparison = ""
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per unit."""

    name: str
    kind: MetricKind
    source: Measure
    over: Measure | None = None  # ratio: the denominator
    per_unit: PerUnit = "last"
    missing: Missing = "failure"
    window_hours: float = 24.0  # after the unit's first exposure
    better: Better = "higher"
    least: float = 0.0  # continuous: values are clipped into least..cap
    cap: float | None = None
    covariate: str | None = None  # of `covariates` at the first exposure; reduces variance (CUPED)


@dataclass(frozen=True, slots=True)
class Guardrail:
    metric: str
    margin: float  # how much worse than control is still no harm; in the metric's unit


@dataclass(frozen=True, slots=True)
class Rules:
    """When the experiment ends, and how."""

    primary: str
    guardrails: tuple[Guardrail, ...] = ()
    alpha: float = 0.05
    expected_units: int = 5000  # of the arms together, at which a decision is expected
    equivalent_within: float | None = None  # None: never called equivalent
    block_units: int = 50  # per arm
    most_units: int = 40_000  # of the arms together
    least_days: float = 7.0


@dataclass(frozen=True, slots=True)
class Experiment:
    name: str
    question: str
    salt: str
    unit: UnitKind
    control: str
    arms: tuple[Arm, ...]  # by name; weights add up to 1
    metrics: Mapping[str, Metric]
    decide: Rules
    ramp: float = 0.0  # share of units enrolled; may only grow
    mode: Mode = "fixed"
    slice: float = 0.0  # thompson: share of the enrolled that is assigned uniformly
    phase: int = 1  # of the weights and digests above
    digest: str = ""  # sha256 of the file's meaning

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def judged(self) -> tuple[Metric, ...]:
        """The primary metric, then the guardrails in the file's order."""
        names = (self.decide.primary, *(guard.metric for guard in self.decide.guardrails))
        return tuple(self.metrics[name] for name in names)


@dataclass(frozen=True, slots=True)
class Frozen:
    """An arm as it runs: digests of everything it is made of, by kind (template, pool, adapter, …)."""

    name: str
    weight: float
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of an experiment in which weights and digests stand still."""

    number: int
    started: float  # seconds since the epoch
    arms: tuple[Frozen, ...]  # by name


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which arm a unit meets, and how likely that was: within the uniform slice, or outside it."""

    arm: str
    propensity: float
    enrolled: bool
    slice: bool
    phase: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one unit, once its window has closed. `value` is oriented: higher is better."""

    unit: str
    arm: str
    phase: int
    slice: bool
    propensity: float
    closed_at: float  # seconds since the epoch
    value: float
    over: float = 1.0  # ratio: the denominator
    covariate: float | None = None
