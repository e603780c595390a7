"""Judges the running experiment by the journal: for reports, and every few seconds for a verdict."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from prompts.experiment_records import Outcome
from prompts.outcomes import UnitLog, add_turn, answered, outcome, units_of
from server.experiment_book import Decision, Logged
from server.experiment_log import ExperimentLog
from server.logged_turns import logged_turns
from server.schema import exposures

if TYPE_CHECKING:  # scipy takes seconds to import: only once there is something to judge
    from prompts.analysis.verdict import Judgement, Seen

log = logging.getLogger("fewshot.experiments")
SETTLE_SECONDS = 1.0  # a row may still be on its way to the disk
OVERLAP_SECONDS = 60.0  # exposures of several replicas are committed in another order than they were made
UNITS_AT_ONCE = 400


def report_from(engine: Engine, known: Logged, now: float | None = None) -> dict[str, Any]:
    """The report of one experiment as the journal has it now, with its state and what was decided."""
    from prompts.analysis.report import report_of
    from prompts.analysis.verdict import judge

    experiment = known.experiment
    units = units_of(logged_turns(engine, exposures.c.experiment == experiment.name))
    judged = judge(experiment, known.phases, units, time.time() if now is None else now)
    report = report_of(judged, units)
    return {**report, "status": known.status, "decisions": [decision_object(one) for one in known.decisions]}


def found_digest(report: dict[str, Any]) -> str:
    """The digest that decisions carry: of what the log says, not of what was decided on it."""
    from prompts.analysis.report import digest_of

    return digest_of({key: value for key, value in report.items() if key not in ("status", "decisions")})


def decision_object(one: Decision) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Decision.__dataclass_fields__}


@dataclass(slots=True)
class _Memory:
    """What is known of the experiment's units, so that each is read when it closes and not again."""

    name: str
    units: dict[str, UnitLog] = field(default_factory=dict)  # without their turns
    read_to: float = 0.0
    open: dict[str, list[str]] = field(default_factory=dict)  # by metric
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    heard: dict[str, list["Seen"]] = field(default_factory=dict)


class Evaluator:
    """Looks at what is new in the journal and writes down the verdict when there is one. Calls block."""

    def __init__(
        self, engine: Engine, log: ExperimentLog, alarm: Callable[[str, bool], None] = lambda *_: None
    ) -> None:
        """`alarm` hears of each experiment whether its sample ratio is known to be wrong."""
        self._engine = engine
        self._log = log
        self._alarm = alarm
        self._memory: _Memory | None = None

    def look(self, now: float | None = None) -> "Judgement | None":
        """Judge the running experiment; None when none runs, its verdict is known, or nothing is new."""
        book = self._log.read()
        for one in book.experiments.values():
            self._alarm(one.experiment.name, one.verdict is not None and one.verdict.verdict == "invalid")
        running = book.running
        if running is None or running.verdict is not None:
            return None
        from prompts.analysis.verdict import Seen, heard_of, judge_outcomes

        experiment = running.experiment
        if self._memory is None or self._memory.name != experiment.name:
            self._memory = _Memory(
                experiment.name,
                open={name: [] for name in experiment.metrics},
                outcomes={name: [] for name in experiment.metrics},
                heard={name: [] for name in heard_of(experiment)},
            )
        memory, at = self._memory, (time.time() if now is None else now) - SETTLE_SECONDS
        news = self._read_exposures(memory)
        for name in experiment.metrics:
            news |= self._close(running, memory, name, at)
        if not news:
            return None
        judged = judge_outcomes(
            experiment,
            running.phases,
            [Seen(log.first_at, log.phase, log.arm) for log in memory.units.values()],
            memory.outcomes,
            memory.heard,
            at,
        )
        if judged.verdict.finding != "running":
            report = report_from(self._engine, running, now)
            self._log.record_verdict(
                experiment.name, judged.verdict.finding, judged.verdict.reason, found_digest(report)
            )
            self._alarm(experiment.name, judged.verdict.finding == "invalid")
        elif experiment.mode == "thompson":
            self._open_phase(running, memory)
        return judged

    def _open_phase(self, running: Logged, memory: _Memory) -> None:
        """Move a bandit's weights once its phase has enough closed units."""
        from prompts.analysis.bandit import LEAST_UNITS, phase_seed, thompson_weights

        experiment = running.experiment
        closed = memory.outcomes[experiment.decide.primary]
        if sum(one.phase == experiment.phase for one in closed) < LEAST_UNITS:
            return
        names = [arm.name for arm in experiment.arms]
        values = [[one.value for one in closed if one.arm == name] for name in names]
        weights = thompson_weights(
            [sum(own) for own in values],
            [len(own) for own in values],
            seed=phase_seed(experiment.salt, experiment.phase),
        )
        told = {name: float(weight) for name, weight in zip(names, weights, strict=True)}
        if self._log.open_phase(experiment.name, told, after=experiment.phase):
            log.warning("experiment %s: phase %d opens", experiment.name, experiment.phase + 1)

    def _read_exposures(self, memory: _Memory) -> bool:
        """Units that are new; whether there are any."""
        before = len(memory.units)
        late = exposures.c.at >= memory.read_to - OVERLAP_SECONDS
        for row in logged_turns(self._engine, exposures.c.experiment == memory.name, late):
            memory.read_to = max(memory.read_to, row["at"])
            if row["unit"] not in memory.units:
                add_turn(memory.units, row).turns.clear()
                for waiting in memory.open.values():
                    waiting.append(row["unit"])
        return len(memory.units) > before

    def _close(self, running: Logged, memory: _Memory, name: str, at: float) -> bool:
        """Read the units whose window of this metric has closed; whether there are any."""
        from prompts.analysis.verdict import Seen

        metric = running.experiment.metrics[name]
        window = metric.window_hours * 3600
        closed = [unit for unit in memory.open[name] if memory.units[unit].first_at + window <= at]
        if not closed:
            return False
        for some in _parts(closed):
            own = (exposures.c.experiment == memory.name, exposures.c.unit.in_(some))
            for log in units_of(logged_turns(self._engine, *own)).values():
                found = outcome(metric, log, at)
                if found is not None:
                    memory.outcomes[name].append(found)
                if name in memory.heard and answered(metric, log):
                    memory.heard[name].append(Seen(log.first_at + window, log.phase, log.arm))
        gone = set(closed)
        memory.open[name] = [unit for unit in memory.open[name] if unit not in gone]
        return True


def _parts(units: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(units)
    while part := list(islice(rest, UNITS_AT_ONCE)):
        yield part
