"""Who was enrolled in a bandit, and how: its weights move, the units that met them do not."""

from collections.abc import Callable

from sqlalchemy import Engine, select

from prompts.experiment_records import Assignment
from server.schema import exposures

OVERLAP_SECONDS = 60.0  # replicas commit exposures in another order than they made them


class Enrolment:
    """First exposures of one experiment's units: those of the journal, and those made here since."""

    def __init__(self, engine: Engine, experiment: str, key_of: Callable[[str, str], str]) -> None:
        """`key_of(tenant, unit)` is the unit as the journal writes it."""
        self._engine = engine
        self._experiment = experiment
        self._key_of = key_of
        self._met: dict[str, Assignment] = {}
        self._read_to = 0.0

    def refresh(self) -> None:
        """Read what other replicas have enrolled since. Blocks."""
        columns = ("unit", "arm", "phase", "propensity", "slice", "at")
        asked = (
            select(*(exposures.c[name] for name in columns))
            .where(
                exposures.c.experiment == self._experiment,
                exposures.c.at >= self._read_to - OVERLAP_SECONDS,
            )
            .order_by(exposures.c.at, exposures.c.turn)
        )
        with self._engine.connect() as connection:
            for unit, arm, phase, propensity, uniform, at in connection.execute(asked):
                self._met.setdefault(unit, Assignment(arm, propensity, True, bool(uniform), phase))
                self._read_to = max(self._read_to, at)

    def seen(self, tenant: str, unit: str) -> Assignment | None:
        """What the unit met first; None: nothing yet."""
        return self._met.get(self._key_of(tenant, unit))

    def keep(self, tenant: str, unit: str, met: Assignment) -> None:
        """Remember what it has met now, before the journal can tell."""
        self._met.setdefault(self._key_of(tenant, unit), met)
