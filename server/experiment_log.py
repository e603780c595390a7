"""Experiments in the journal, written: starts and changes, phases, verdicts, and what people decide.

Append-only, and the only truth that replicas share: whoever reads the same rows serves the same arms.
"""

import json
import time
from collections.abc import Mapping

from sqlalchemy import Connection, Engine, insert, select

from indexer.database import writing
from indexer.statements import Statement
from prompts.errors import ExperimentInvalid
from prompts.experiment_records import Experiment, Frozen, Phase
from prompts.experiments import check_change, next_phase
from server.errors import ExperimentState, NotFound
from server.experiment_book import ENDS, VERSION, Book, Decision, Logged, read_book
from server.schema import decisions, defaults, definitions, open_schema

_VERSION = Statement(VERSION)


class ExperimentLog:
    """The experiments of one journal database. Calls block."""

    def __init__(self, engine: Engine) -> None:
        open_schema(engine)
        self._engine = engine

    def version(self) -> tuple[int, int, int]:
        """Changes with every row: a cheap look for news, which every server takes each second."""
        ((first, second, third),) = _VERSION.rows(self._engine, asker="")
        return first, second, third

    def read(self) -> Book:
        with self._engine.connect() as connection:
            return read_book(connection)

    def register(self, text: str, experiment: Experiment, arms: tuple[Frozen, ...]) -> bool:
        """Start the experiment of a file, or take over its change; False when nothing is new.

        A file that was in force before is not taken over again, so that a replica with an older copy does not
        turn the others back. A draft (ramp 0) that never ran is not started. Raises ExperimentInvalid while
        another runs, ExperimentChanged for a change that would spoil it.
        """
        with writing(self._engine) as connection:
            book = read_book(connection)
            known = book.experiments.get(experiment.name)
            phase = known.phases[-1] if known else None
            if known is None:
                if experiment.ramp == 0:
                    return False
                if (other := book.running) is not None:
                    raise ExperimentInvalid(
                        experiment.name,
                        [f"{other.experiment.name} still runs, and one may: stop or promote it first"],
                    )
            else:
                seen = definitions.c.experiment == experiment.name, definitions.c.sha256 == experiment.digest
                before = connection.execute(select(definitions.c.id).where(*seen).limit(1)).first()
                newest = experiment.digest == known.experiment.digest
                if known.status != "running" or (before and not newest):
                    return False
                if newest and _recipes(arms) == _recipes(known.phases[-1].arms):
                    return False
                if not newest:
                    check_change(known.experiment, experiment)
                if newest or experiment.mode == "thompson":  # the weights stay those of the phase
                    weights = {arm.name: arm.weight for arm in known.phases[-1].arms}
                    arms = tuple(Frozen(arm.name, weights[arm.name], arm.digests) for arm in arms)
            new = next_phase(experiment, arms, time.time(), phase)
            _define(connection, experiment, text, new)
            return True

    def open_phase(self, name: str, weights: Mapping[str, float], after: int) -> bool:
        """The next phase of a bandit, with other weights; False when phase `after` is the newest no more."""
        with writing(self._engine) as connection:
            known = read_book(connection).get(name)
            last = known.phases[-1]
            if last.number != after or known.status != "running":
                return False
            arms = tuple(Frozen(arm.name, weights[arm.name], arm.digests) for arm in last.arms)
            new = Phase(last.number + 1, time.time(), arms)
            _define(connection, known.experiment, known.text, new)
            return True

    def record_verdict(self, name: str, verdict: str, reason: str, report_sha256: str) -> bool:
        """Write down the verdict that was reached first, and stop at once where it is one of harm.

        False when there is one already: another replica was faster.
        """
        with writing(self._engine) as connection:
            book = read_book(connection)
            known = book.get(name)
            if known.verdict is not None or known.status != "running":
                return False
            found = Decision(
                experiment=name,
                action="verdict",
                verdict=verdict,
                by="server",
                reason=reason,
                before=book.default,
                after=book.default,
                report_sha256=report_sha256,
            )
            _append(connection, found)
            if verdict in ("harmful", "invalid"):
                _stop(connection, book, name, verdict=verdict, by="server", reason=reason, sha=report_sha256)
            return True

    def stop(self, name: str, *, by: str, reason: str) -> Decision:
        """End it: everybody is served the default again, which is its control where there was none.

        Raises NotFound, ExperimentState.
        """
        with writing(self._engine) as connection:
            book = read_book(connection)
            _demand_running(book.get(name))
            verdict = book.get(name).verdict
            return _stop(
                connection,
                book,
                name,
                verdict=verdict.verdict if verdict else None,
                by=by,
                reason=reason,
                sha=None,
            )

    def promote(
        self,
        name: str,
        arm: str,
        *,
        verdict: str | None,
        by: str,
        reason: str,
        forced: bool,
        report_sha256: str,
    ) -> Decision:
        """One step: the decision, the end of the experiment, and the arm as the new default.

        Raises NotFound for an arm that is none, ExperimentState when it does not run (unless forced).
        """
        with writing(self._engine) as connection:
            book = read_book(connection)
            known = book.get(name)
            if arm not in {one.name for one in known.experiment.arms}:
                arms = ", ".join(one.name for one in known.experiment.arms)
                raise NotFound(f"experiment {name} has no arm {arm!r}; there are {arms}", param="arm")
            if not forced:
                _demand_running(known)
            made = Decision(
                experiment=name,
                action="promote",
                verdict=verdict,
                by=by,
                reason=reason,
                forced=forced,
                before=_served(book, known),
                after=f"{name}/{arm}",
                report_sha256=report_sha256,
            )
            return _point(connection, made)

    def rollback(self, *, by: str, reason: str, name: str | None = None) -> Decision:
        """A new decision that points back to what was served before the newest promotion.

        Raises ExperimentState when nothing was promoted, or the newest promotion is not `name`'s.
        """
        with writing(self._engine) as connection:
            book = read_book(connection)
            moved = [one for log in book.experiments.values() for one in log.decisions if one.action in ENDS]
            moved.sort(key=lambda one: one.at)
            last = moved[-1] if moved else None
            if last is None or last.action != "promote" or last.experiment != (name or last.experiment):
                raise ExperimentState(
                    f"what is served by default is {book.default or 'each request as it comes'}, and no "
                    f"promotion{f' of {name}' if name else ''} led there: there is nothing to roll back"
                )
            made = Decision(
                experiment=last.experiment,
                action="rollback",
                verdict=last.verdict,
                by=by,
                reason=reason,
                before=book.default,
                after=last.before,
            )
            return _point(connection, made)


def _define(connection: Connection, experiment: Experiment, text: str, phase: Phase) -> None:
    arms = [{"name": arm.name, "weight": arm.weight, "digests": dict(arm.digests)} for arm in phase.arms]
    row = {
        "experiment": experiment.name,
        "at": time.time(),
        "sha256": experiment.digest,
        "text": text,
        "phase": phase.number,
        "arms": json.dumps(arms),
    }
    connection.execute(insert(definitions).values(row))


def _append(connection: Connection, decision: Decision) -> int:
    """Write it down; its number."""
    row = {name: getattr(decision, name) for name in Decision.__dataclass_fields__}
    done = connection.execute(insert(decisions).values(row))
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def _point(connection: Connection, decision: Decision) -> Decision:
    """Write down the decision and the default that it leads to."""
    number = _append(connection, decision)
    connection.execute(insert(defaults).values(at=decision.at, recipe=decision.after, decision=number))
    return decision


def _stop(
    connection: Connection,
    book: Book,
    name: str,
    *,
    verdict: str | None,
    by: str,
    reason: str,
    sha: str | None,
) -> Decision:
    served = _served(book, book.get(name))
    made = Decision(
        experiment=name,
        action="stop",
        verdict=verdict,
        by=by,
        reason=reason,
        before=served,
        after=served,
        report_sha256=sha,
    )
    return _point(connection, made)


def _served(book: Book, known: Logged) -> str:
    """What those in no experiment are served while this one runs."""
    return book.default or f"{known.experiment.name}/{known.experiment.control}"


def _demand_running(known: Logged) -> None:
    if known.status != "running":
        last = next(one for one in reversed(known.decisions) if one.action in ENDS)
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.at))
        raise ExperimentState(f"experiment {known.experiment.name} is {known.status} since {since}")


def _recipes(arms: tuple[Frozen, ...]) -> dict[str, Mapping[str, str]]:
    return {arm.name: arm.digests for arm in arms}
