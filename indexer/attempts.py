"""What must be done once though it is asked for twice: claims by a caller's name for it, or by its content.

A claim is taken before the work and completed with its result after it; work that failed leaves none. A
claim whose process died may be taken over: what that one made, if anything, bears the claim's id, so that
the next can find it and need not make it again.
"""

import time
from typing import Literal, NamedTuple

import sqlalchemy as sa
from ulid import ULID

from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.schema import attempts

NAMED_SECONDS = 86_400.0  # for so long a name stands for its result
REPEATED_SECONDS = 600.0  # for so long an attempt without a name may be repeated
LEASE_SECONDS = 120.0  # an attempt that was not renewed for so long has died


class Standing(NamedTuple):
    """What is to be done about an attempt.

    yours: do it, then `complete` or `abandon` it. done: `result` is its result. running: somebody is at it.
    other: the name stands for something else.
    """

    state: Literal["yours", "done", "running", "other"]
    id: str = ""  # a ULID
    result: str | None = None
    again: bool = False  # another process died on it


def begin(
    catalogue: Catalogue,
    caller: str,
    content: str,
    *,
    name: str | None = None,
    repeated: bool = False,
    lease_seconds: float = LEASE_SECONDS,
) -> Standing:
    """Claim the attempt. `content` is a digest of what is asked for.

    Without a name only a repetition looks for an earlier attempt: the same content twice may be meant so.
    """
    now = time.time()
    with writing(catalogue.engine) as connection:
        connection.execute(sa.delete(attempts).where(_old(now)))
        earlier = _earlier(connection, caller, content, name) if name is not None or repeated else None
        if earlier is None:
            claim = str(ULID())
            row = {"id": claim, "caller": caller, "name": name, "content": content, "begun_at": now}
            connection.execute(attempts.insert(), row)
            return Standing("yours", claim)
        if earlier.content != content:
            return Standing("other")
        if earlier.done_at is not None:
            return Standing("done", earlier.id, earlier.result)
        if now - earlier.begun_at < lease_seconds:
            return Standing("running", earlier.id)
        taken = sa.update(attempts).where(attempts.c.id == earlier.id)
        connection.execute(taken.values(begun_at=now))
        return Standing("yours", earlier.id, again=True)


def renew(catalogue: Catalogue, claim: str) -> None:
    """Whoever holds the claim is alive and at work."""
    with writing(catalogue.engine) as connection:
        held = sa.update(attempts).where(attempts.c.id == claim, attempts.c.done_at.is_(None))
        connection.execute(held.values(begun_at=time.time()))


def complete(catalogue: Catalogue, claim: str, result: str) -> None:
    """The work is done; whoever asks for it again gets the result."""
    with writing(catalogue.engine) as connection:
        done = sa.update(attempts).where(attempts.c.id == claim)
        connection.execute(done.values(done_at=time.time(), result=result))


def abandon(catalogue: Catalogue, claim: str) -> None:
    """The work was refused or failed, and left nothing: whoever asks again starts anew."""
    with writing(catalogue.engine) as connection:
        connection.execute(sa.delete(attempts).where(attempts.c.id == claim))


def _earlier(connection: sa.Connection, caller: str, content: str, name: str | None) -> sa.Row | None:  # type: ignore[type-arg]
    query = sa.select(attempts).where(attempts.c.caller == caller)
    if name is not None:
        query = query.where(attempts.c.name == name)
    else:
        query = query.where(attempts.c.name.is_(None), attempts.c.content == content)
    return connection.execute(query.order_by(attempts.c.begun_at.desc()).limit(1)).first()


def forget(catalogue: Catalogue) -> None:
    """Drop the results whose time is over, which name things that may be gone."""
    old = _old(time.time())
    with catalogue.engine.connect() as connection:
        if connection.execute(sa.select(attempts.c.id).where(old).limit(1)).first() is None:
            return  # nothing to write, as nearly always
    with writing(catalogue.engine) as connection:
        connection.execute(sa.delete(attempts).where(old))


def _old(now: float) -> sa.ColumnElement[bool]:
    unnamed = sa.and_(attempts.c.name.is_(None), attempts.c.begun_at < now - REPEATED_SECONDS)
    return sa.or_(unnamed, attempts.c.begun_at < now - NAMED_SECONDS)
