"""What the journal knows of experiments, read: their files and phases, decisions, the default."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from prompts.experiment_files import parse_experiment
from prompts.experiment_records import Experiment, Frozen, Phase
from prompts.experiments import in_phase
from server.errors import NotFound
from server.schema import decisions, defaults, definitions

Action = Literal["verdict", "stop", "promote", "rollback"]
Status = Literal["running", "stopped", "promoted"]
ENDS: Mapping[str, Status] = {"stop": "stopped", "promote": "promoted", "rollback": "stopped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Something that was found or done, never changed afterwards."""

    experiment: str
    action: Action
    verdict: str | None = None
    before: str | None = None  # experiment/arm served by default; None: requests as they come
    after: str | None = None
    by: str  # a key's prefix, a user of this machine, or `server`
    at: float = field(default_factory=time.time)  # seconds since the epoch
    reason: str = ""
    forced: bool = False
    report_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One experiment as the journal has it."""

    experiment: Experiment  # with the weights and the number of its newest phase
    text: str  # the file in force
    phases: tuple[Phase, ...]  # oldest first
    decisions: tuple[Decision, ...]  # oldest first

    @property
    def started(self) -> float:
        return self.phases[0].started

    @property
    def status(self) -> Status:
        ends = [ENDS[one.action] for one in self.decisions if one.action in ENDS]
        return ends[-1] if ends else "running"

    @property
    def verdict(self) -> Decision | None:
        """The first that was reached; it does not change."""
        return next((one for one in self.decisions if one.action == "verdict"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Everything at one moment."""

    version: tuple[int, int, int] = (0, 0, 0)
    experiments: Mapping[str, Logged] = field(default_factory=dict)  # by name, in order of their start
    default: str | None = None

    @property
    def running(self) -> Logged | None:
        return next((one for one in self.experiments.values() if one.status == "running"), None)

    def get(self, name: str) -> Logged:
        """Raises NotFound."""
        if name not in self.experiments:
            raise NotFound(
                f"no experiment {name!r} was ever started; there are {', '.join(self.experiments) or 'none'}"
            )
        return self.experiments[name]


def read_book(connection: Connection) -> Book:
    logs: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(definitions).order_by(definitions.c.id)):
        logs.setdefault(row.experiment, []).append(row)
    made: dict[str, list[Decision]] = {name: [] for name in logs}
    for row in connection.execute(select(decisions).order_by(decisions.c.id)):
        fields = {key: value for key, value in row._mapping.items() if key != "id"}
        made[row.experiment].append(Decision(**fields))
    newest = connection.execute(select(defaults.c.recipe).order_by(defaults.c.id.desc()).limit(1)).first()
    return Book(
        version=version_of(connection),
        experiments={name: _logged(rows, made[name]) for name, rows in logs.items()},
        default=newest.recipe if newest else None,
    )


def _logged(rows: list[Row[Any]], made: list[Decision]) -> Logged:
    phases: dict[int, Phase] = {}
    for row in rows:
        arms = tuple(Frozen(**arm) for arm in json.loads(row.arms))
        phases.setdefault(row.phase, Phase(row.phase, row.at, arms))
    text = rows[-1].text
    experiment = parse_experiment(text.encode(), rows[-1].experiment)
    return Logged(
        experiment=in_phase(experiment, phases[rows[-1].phase]),
        text=text,
        phases=tuple(phases[number] for number in sorted(phases)),
        decisions=tuple(made),
    )


VERSION = select(  # changes with every row of experiments
    *(
        select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery().label(table.name)
        for table in (definitions, decisions, defaults)
    )
)


def version_of(connection: Connection) -> tuple[int, int, int]:
    """As of this moment of the connection."""
    first, second, third = connection.execute(VERSION).one()
    return first, second, third
