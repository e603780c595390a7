"""What people decide about experiments: promote, stop, roll back; the same for commands and for HTTP."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, func, select

from server.errors import ExperimentState, InvalidValue
from server.evaluating import found_digest, report_from
from server.experiment_book import Decision, Logged
from server.experiment_log import ExperimentLog
from server.schema import exposures


def report_on(engine: Engine, log: ExperimentLog, name: str) -> dict[str, Any]:
    """The experiment's report as of now. Raises NotFound."""
    return report_from(engine, log.read().get(name))


def promote(
    engine: Engine,
    log: ExperimentLog,
    name: str,
    arm: str,
    *,
    by: str,
    because: str = "",
    force: bool = False,
) -> Decision:
    """Make the arm the default for everybody, in one logged step.

    The verdict must be that this arm has won, or `equivalent` with a reason; `force` needs a reason and is
    logged. Raises NotFound, InvalidValue, ExperimentState.
    """
    known = log.read().get(name)
    if arm not in (names := [one.name for one in known.experiment.arms]):
        raise InvalidValue(f"experiment {name} has no arm {arm!r}; there are {', '.join(names)}", param="arm")
    report = report_from(engine, known)
    verdict = known.verdict.verdict if known.verdict else report["verdict"]
    won = verdict == "winner" and report["winner"] == arm
    if not won and not because:
        if force or verdict == "equivalent":
            raise InvalidValue("say why: the reason is logged with the decision", param="reason")
        raise ExperimentState(
            f"the verdict of {name} is {verdict!r}"
            + (f" for {report['winner']}" if report["winner"] else "")
            + f", so {arm} is not promoted: wait for a winner, or force it with a reason"
        )
    if not won and verdict != "equivalent" and not force:
        raise ExperimentState(
            f"the verdict of {name} is {verdict!r}, so {arm} is not promoted: wait for a winner, or force it"
        )
    return log.promote(
        name,
        arm,
        verdict=verdict,
        by=by,
        reason=because or report["reason"],
        forced=force and not won,
        report_sha256=found_digest(report),
    )


class Desk:
    """Everything that can be asked and decided of a server's experiments. Calls block.

    `changed` is called after a decision, so that this server serves by it before the answer is given.
    """

    def __init__(self, engine: Engine, log: ExperimentLog, changed: Callable[[], None]) -> None:
        self._engine = engine
        self._log = log
        self._changed = changed

    def all(self) -> list[tuple[Logged, Mapping[str, int]]]:
        """Each with the requests that count for its arms."""
        return [(one, self._counts(one)) for one in self._log.read().experiments.values()]

    def get(self, name: str) -> tuple[Logged, Mapping[str, int]]:
        """Raises NotFound."""
        known = self._log.read().get(name)
        return known, self._counts(known)

    def report(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        return report_on(self._engine, self._log, name)

    def promote(self, name: str, arm: str, *, by: str, because: str, force: bool) -> Decision:
        """Raises NotFound, InvalidValue, ExperimentState."""
        made = promote(self._engine, self._log, name, arm, by=by, because=because, force=force)
        self._changed()
        return made

    def stop(self, name: str, *, by: str, because: str) -> Decision:
        """Raises NotFound, ExperimentState."""
        made = self._log.stop(name, by=by, reason=because)
        self._changed()
        return made

    def rollback(self, name: str, *, by: str, because: str) -> Decision:
        """Raises NotFound, ExperimentState."""
        self._log.read().get(name)
        made = self._log.rollback(by=by, reason=because, name=name)
        self._changed()
        return made

    def _counts(self, known: Logged) -> Mapping[str, int]:
        own = exposures.c.experiment == known.experiment.name
        counted = select(exposures.c.arm, func.count()).where(own).group_by(exposures.c.arm)
        with self._engine.connect() as connection:
            return {arm: int(number) for arm, number in connection.execute(counted).all()}
