"""What callers thought of answers, joined to them by the turn's id: append-only, the newest value counts."""

import json
import threading
import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine, bindparam, insert, select
from sqlalchemy.exc import OperationalError

from indexer.database import writing
from server.errors import InvalidValue, NotFound, Overloaded, UnsupportedParameter
from server.ids import new_id
from server.schema import exposures, open_schema, plans, replies
from server.schema import feedback as table

WINDOW_HOURS = 24.0  # after the exposure; what comes later is kept, but no longer says what the answer caused

Value = bool | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One value of one metric for one choice of an answer."""

    target: str  # id of the answer
    metric: str
    value: Value
    choice: int = 0
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An opinion as it was written down."""

    id: str
    created_at: int  # seconds since the epoch
    opinion: Opinion
    replaced: bool  # the same giver had said something else before
    late: bool
    experiment: str | None = None  # this and the next: of the answer, where it counts for one
    arm: str | None = None


class Feedback:
    """The feedback of one journal database. Calls block; every look-up names the tenant.

    With `keep` = "digests" no text is kept: comments are left out, corrections refused.
    """

    def __init__(self, engine: Engine, *, keep: Literal["text", "digests"] = "text") -> None:
        open_schema(engine)
        self._engine = engine
        self._keep_text = keep == "text"
        # SQLite lets writers wait without a queue; one at a time here leaves it few to let starve.
        self._one_at_a_time = threading.Lock()

    def take(self, tenant: str, giver: str, opinion: Opinion) -> Taken:
        """On disk when this returns. `giver` is the key's prefix.

        Raises NotFound for an answer that this tenant never got, InvalidValue for a choice that it has not,
        UnsupportedParameter for a text where none is kept, Overloaded while others keep the journal busy.
        """
        if isinstance(opinion.value, str) and not self._keep_text:
            raise UnsupportedParameter(
                "this server keeps no texts, so it takes no corrections", param="value"
            )
        try:
            with self._one_at_a_time, writing(self._engine) as connection:
                return self._taken(connection, tenant, giver, opinion)
        except OperationalError as problem:
            if "locked" not in str(problem.orig):
                raise
            raise Overloaded("the journal is busy; say it again", retry_after_seconds=1) from problem

    def _taken(self, connection: Connection, tenant: str, giver: str, opinion: Opinion) -> Taken:
        now = time.time()
        found = connection.execute(_ANSWER, {"target": opinion.target, "owner": tenant}).first()
        if found is None:
            raise NotFound("there is no such answer", param="id")
        if opinion.choice >= _choices(found.texts, found.limits):
            raise InvalidValue("the answer has no such choice", param="choice")
        same = (
            table.c.turn == opinion.target,
            table.c.giver == giver,
            table.c.choice == opinion.choice,
            table.c.metric == opinion.metric,
        )
        earlier = connection.execute(select(table.c.id).where(*same).limit(1)).first()
        taken = Taken(
            id=new_id("fb_"),
            created_at=int(now),
            opinion=opinion,
            replaced=earlier is not None,
            late=now - found.at > WINDOW_HOURS * 3600,
            experiment=found.experiment,
            arm=found.arm,
        )
        row = {
            "id": taken.id,
            "at": now,
            "turn": opinion.target,
            "giver": giver,
            "choice": opinion.choice,
            "metric": opinion.metric,
            "value": json.dumps(opinion.value, ensure_ascii=False),
            "comment": opinion.comment if self._keep_text else None,
            "late": taken.late,
        }
        connection.execute(insert(table).values(row))
        return taken


_ANSWER = (
    select(exposures.c.at, exposures.c.experiment, exposures.c.arm, plans.c.limits, replies.c.texts)
    .outerjoin(plans, plans.c.turn == exposures.c.turn)
    .outerjoin(replies, replies.c.turn == exposures.c.turn)
    .where(exposures.c.turn == bindparam("target"), exposures.c.tenant == bindparam("owner"))
)


def _choices(texts: str | None, limits: str | None) -> int:
    """How many there are: by the texts, or without them by what was asked for."""
    if texts is not None:
        return len(json.loads(texts))
    return int(json.loads(limits)["n"]) if limits else 1
