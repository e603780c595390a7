"""The journal database's side of adapters: what there is, what should be loaded, what names mean.

The desired state is here, for every replica to follow; each step taken is kept.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from indexer.database import writing
from indexer.statements import Statement
from server.adapters.names import parted
from server.adapters.records import Artefact
from server.errors import AdapterInUse, InvalidValue, NotFound
from server.schema import adapter_aliases as aliases
from server.schema import adapter_steps as steps
from server.schema import adapters as table
from server.schema import open_schema

Action = Literal["add", "load", "unload", "reject", "promote", "rollback", "unbind", "delete"]
NEWEST_STEP = sa.select(sa.func.max(steps.c.id).label("newest"))
_REVISION = Statement(NEWEST_STEP)
FROM_ROW = ("name", "version", "kind", "digest", "base", "bytes", "length", "parent")


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as it stands in the book."""

    number: int
    artefact: Artefact
    wanted: bool
    error: str | None


class Step(NamedTuple):
    """Something that was done. `before` is what the alias meant until then."""

    at: float
    action: Action
    adapter: str
    alias: str | None
    before: str | None
    by: str
    reason: str | None


class Moved(NamedTuple):
    alias: str
    before: str | None
    after: str
    at: float
    revision: int  # of the book with this step


class State(NamedTuple):
    """The whole book as of one moment. `revision` rises with every step."""

    revision: int
    entries: Mapping[str, Entry]
    aliases: Mapping[str, str]


class Book:
    """Calls block. `root` is where the folders are."""

    def __init__(self, engine: sa.Engine, root: Path) -> None:
        open_schema(engine)
        self._engine = engine
        self._root = root

    def revision(self) -> int:
        """Rises with every step: a cheap look, for every server looks once a second."""
        ((newest,),) = _REVISION.rows(self._engine, asker="")
        return int(newest or 0)

    def state(self) -> State:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.id)).mappings().all()
            names = connection.execute(sa.select(aliases.c.alias, aliases.c.adapter)).all()
            entries = (self._entry(dict(row)) for row in rows)
            return State(
                _revision(connection),
                {entry.artefact.reference: entry for entry in entries},
                {row.alias: row.adapter for row in names},
            )

    def find(self, reference: str) -> Entry:
        """Raises NotFound, InvalidValue for what is no reference."""
        with self._engine.connect() as connection:
            return self._entry(_row(connection, reference))

    def has(self, reference: str) -> bool:
        """Whether there is such a version."""
        try:
            self.find(reference)
        except (NotFound, InvalidValue):
            return False
        return True

    def steps(self, limit: int = 100) -> list[Step]:
        """The newest first."""
        columns = [steps.c[name] for name in Step._fields]
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(*columns).order_by(steps.c.id.desc()).limit(limit))
            return [Step(*row) for row in rows]

    def add(self, artefact: Artefact, *, by: str) -> Entry:
        """The same version twice is one entry."""
        with writing(self._engine) as connection:
            known = connection.execute(sa.select(table.c.id).where(*_is(artefact.reference))).first()
            if known is None:
                values = {name: getattr(artefact, name) for name in FROM_ROW}
                values |= {"created_at": artefact.created, "metrics": json.dumps(dict(artefact.metrics))}
                connection.execute(sa.insert(table).values(**values, wanted=False))
                _log(connection, "add", artefact.reference, by=by)
            return self._entry(_row(connection, artefact.reference))

    def want(self, reference: str, wanted: bool, *, by: str) -> None:
        """Have it in the engine of every replica, or in none. Raises NotFound, AdapterInUse."""
        with writing(self._engine) as connection:
            row = _row(connection, reference)
            if not wanted:
                _refuse_bound(connection, reference)
            if bool(row["wanted"]) != wanted or row["error"]:
                change = sa.update(table).where(table.c.id == row["id"])
                connection.execute(change.values(wanted=wanted, error=None))
                _log(connection, "load" if wanted else "unload", reference, by=by)

    def reject(self, reference: str, error: str, *, by: str) -> None:
        """It could not be loaded, and `error` says why. It is not tried again by itself."""
        with writing(self._engine) as connection:
            row = _row(connection, reference)
            change = sa.update(table).where(table.c.id == row["id"])
            connection.execute(change.values(error=error[:1000]))
            _log(connection, "reject", reference, by=by, reason=error[:1000])

    def bind(
        self,
        alias: str,
        reference: str,
        *,
        by: str,
        reason: str | None = None,
        action: Literal["promote", "rollback"] = "promote",
    ) -> Moved:
        """Let the alias mean this version, in one transaction. Raises NotFound."""
        with writing(self._engine) as connection:
            row = _row(connection, reference)
            before = _meaning(connection, alias)
            now = time.time()
            if before is None:
                connection.execute(sa.insert(aliases).values(alias=alias, adapter=reference, at=now))
            else:
                change = sa.update(aliases).where(aliases.c.alias == alias)
                connection.execute(change.values(adapter=reference, at=now))
            connection.execute(
                sa.update(table).where(table.c.id == row["id"]).values(wanted=True, error=None)
            )
            _log(connection, action, reference, by=by, alias=alias, before=before, reason=reason)
            return Moved(alias, before, reference, now, _revision(connection))

    def unbind(self, alias: str, *, by: str) -> int:
        """Let the alias mean nothing; the revision of the book with this step. Raises NotFound."""
        with writing(self._engine) as connection:
            before = _meaning(connection, alias)
            if before is None:
                raise NotFound(f"there is no alias {alias[:100]!r}", param="alias")
            connection.execute(sa.delete(aliases).where(aliases.c.alias == alias))
            _log(connection, "unbind", before, by=by, alias=alias, before=before)
            return _revision(connection)

    def predecessor(self, alias: str) -> str:
        """What the alias meant before what it means now was promoted. Raises NotFound."""
        with self._engine.connect() as connection:
            now = _meaning(connection, alias)
            if now is None:
                raise NotFound(f"there is no alias {alias[:100]!r}", param="alias")
            promoted = (
                sa.select(steps.c.before)
                .where(steps.c.alias == alias, steps.c.adapter == now, steps.c.action == "promote")
                .where(steps.c.before.is_distinct_from(now))
                .order_by(steps.c.id.desc())
                .limit(1)
            )
            before: str | None = connection.execute(promoted).scalar()
            if before is None:
                raise NotFound(
                    f"nothing came before {now} under the alias {alias!r}; promote another version instead",
                    param="alias",
                )
            return before

    def delete(self, reference: str, *, by: str) -> Entry:
        """Forget a version that is neither wanted nor bound. Raises NotFound, AdapterInUse."""
        with writing(self._engine) as connection:
            row = _row(connection, reference)
            _refuse_bound(connection, reference)
            if row["wanted"]:
                raise AdapterInUse(f"{reference} is loaded; unload it first", param="id")
            back = sa.select(steps.c.alias).where(steps.c.before == reference, steps.c.action == "promote")
            current = sa.select(aliases.c.alias).where(aliases.c.alias.in_(back))
            if (alias := connection.execute(current).scalar()) is not None:
                raise AdapterInUse(
                    f"{reference} is what {alias!r} can be rolled back to; promote twice more, or keep it",
                    param="id",
                )
            connection.execute(sa.delete(table).where(table.c.id == row["id"]))
            _log(connection, "delete", reference, by=by)
            return self._entry(row)

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        artefact = Artefact(
            **{name: row[name] for name in FROM_ROW},
            created=row["created_at"],
            metrics=json.loads(row["metrics"]),
            folder=self._root / row["name"] / row["version"],
        )
        return Entry(row["id"], artefact, bool(row["wanted"]), row["error"])


def _is(reference: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    name, version = parted(reference)
    return table.c.name == name, table.c.version == version


def _row(connection: sa.Connection, reference: str) -> Mapping[str, Any]:
    found = connection.execute(sa.select(table).where(*_is(reference))).mappings().first()
    if found is None:
        raise NotFound(f"there is no adapter {reference}; GET /v1/adapters lists them", param="id")
    return dict(found)


def _revision(connection: sa.Connection) -> int:
    return int(connection.execute(NEWEST_STEP).scalar() or 0)


def _meaning(connection: sa.Connection, alias: str) -> str | None:
    meaning: str | None = connection.execute(
        sa.select(aliases.c.adapter).where(aliases.c.alias == alias)
    ).scalar()
    return meaning


def _refuse_bound(connection: sa.Connection, reference: str) -> None:
    bound = connection.execute(sa.select(aliases.c.alias).where(aliases.c.adapter == reference)).scalar()
    if bound is not None:
        raise AdapterInUse(
            f"{reference} is what the alias {bound!r} means; promote another version first", param="id"
        )


def _log(
    connection: sa.Connection,
    action: Action,
    reference: str,
    *,
    by: str,
    alias: str | None = None,
    before: str | None = None,
    reason: str | None = None,
) -> None:
    row = {"at": time.time(), "action": action, "adapter": reference, "by": by}
    connection.execute(sa.insert(steps).values(**row, alias=alias, before=before, reason=reason))
