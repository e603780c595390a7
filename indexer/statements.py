"""Reads that every search makes: compiled once, their rows fetched in one go.

SQLAlchemy's own way costs three times what the database does, for each call anew. And SQLite gives the
interpreter away at every row: beside an embedding or a busy event loop, each of them is a wait. Here all
rows of a statement are one value, made by SQLite itself; PostgreSQL's driver has them all at once anyway.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from indexer.database import decoded
from indexer.errors import StoreDamaged

KEPT = 4  # connections to an SQLite database that wait for the next read
REMEMBERED = 64  # reads of each of them
NOTHING: Mapping[str, object] = {}
Row = Sequence[Any]  # the values of a row, in the order of the statement's columns


class OneOf(sa.ColumnElement[bool]):
    """Whether a column has one of the values of a list, which is one parameter however long it is."""

    inherit_cache = False
    type: Any = (
        sa.types.NULLTYPE
    )  # of a Boolean, SQLite would be asked whether it is 1, and pass over the index

    def __init__(self, column: sa.Column[Any], name: str) -> None:
        self.column = column
        self.values = sa.bindparam(name, type_=sa.types.NullType())


@compiles(OneOf, "sqlite")
def _in_json(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in (element.column, element.values))
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(OneOf, "postgresql")
def _in_array(element: OneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(part, **options) for part in (element.column, element.values))
    return f"{column} = ANY({values})"


class _Reader:
    """A connection that only reads, and rows that it has read since anybody last wrote."""

    __slots__ = ("_known", "_version", "raw")

    def __init__(self, raw: sa.PoolProxiedConnection) -> None:
        self.raw = raw
        self._version: object = None
        self._known: dict[object, Sequence[Row]] = {}

    def known(self) -> dict[object, Sequence[Row]]:
        """The rows, by what was asked; empty after a change. SQLite counts what other connections commit."""
        version = _fetched(self.raw, "PRAGMA data_version")
        if version != self._version or len(self._known) >= REMEMBERED:
            self._version, self._known = version, {}
        return self._known


class _Idle:
    """Connections that only read, kept between reads: the pool's way out and in costs as much as a read.

    SQLite's alone: nothing is left open in them, as no transaction was begun. They are closed when their
    engine is disposed of, which is when the pool closes its own.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[sa.Engine, deque[_Reader]] = WeakKeyDictionary()
        self._meeting = threading.Lock()

    def of(self, engine: sa.Engine) -> "deque[_Reader]":
        kept = self._kept.get(engine)
        if kept is None:
            with self._meeting:
                if engine not in self._kept:
                    self._kept[engine] = deque()
                    sa.event.listen(engine, "engine_disposed", self._let_go)
                kept = self._kept[engine]
        return kept

    def _let_go(self, engine: sa.Engine) -> None:
        kept = self._kept.get(engine, ())
        while kept:
            kept.pop().raw.invalidate()  # its pool is gone: closed, not given back


_IDLE = _Idle()


class Compiled(NamedTuple):
    """A statement in one database's words."""

    text: str
    constants: Mapping[str, object]  # parameters that the statement brings along
    encode: Callable[[Sequence[object]], object]  # of a list that is a parameter
    decode: Callable[[Sequence[Row]], Sequence[Row]]


class Statement:
    """A SELECT whose parameters are lists, see `OneOf`. Each column needs a name of its own."""

    def __init__(self, query: sa.Select[Any]) -> None:
        self._query = query
        self._compiled: dict[str, Compiled] = {}  # by dialect

    def rows(
        self, engine: sa.Engine, *, asker: str | None = None, **lists: Sequence[object]
    ) -> Sequence[Row]:
        """All rows, of one moment. Raises SQLAlchemy's errors, and `StoreDamaged` for what is no text.

        With `asker`, those that the same one read before where nobody has written anything since (SQLite):
        a third of the time that reading takes, which must not tell what others read. They are kept in
        memory, so not for what may have to be erased; and they are the same objects: nobody may change them.
        """
        known = self.compiled(engine.dialect)
        parameters = {**known.constants, **{name: known.encode(some) for name, some in lists.items()}}
        idle = _IDLE.of(engine) if engine.dialect.name == "sqlite" else None
        try:
            reader = idle.pop() if idle else _Reader(engine.raw_connection())
        except IndexError:  # another thread was quicker
            reader = _Reader(engine.raw_connection())
        try:
            if asker is not None and idle is not None:
                read, asked = reader.known(), (self, asker, *parameters.values())
                rows = read.get(asked)
                if rows is None:
                    rows = read[asked] = known.decode(_fetched(reader.raw, known.text, parameters))
            else:
                rows = known.decode(_fetched(reader.raw, known.text, parameters))
        except BaseException as problem:
            reader.raw.invalidate(problem)  # whatever is wrong with it, the next one gets another
            errors = engine.dialect.loaded_dbapi.Error
            if not isinstance(problem, errors):
                raise
            raise sa.exc.DBAPIError.instance(
                known.text, parameters, problem, errors, dialect=engine.dialect
            ) from problem
        if idle is not None and len(idle) < KEPT:
            idle.append(reader)
        else:
            reader.raw.close()
        return rows

    def compiled(self, dialect: sa.Dialect) -> Compiled:
        """The statement for that database, made when it is first asked for."""
        known = self._compiled.get(dialect.name)
        if known is None:
            if dialect.name == "sqlite":
                known = _in_one_value(self._query)
            else:
                inner = self._query.compile(dialect=dialect)
                known = Compiled(str(inner), _constants(inner), list, list)
            self._compiled[dialect.name] = known
        return known


def _fetched(
    raw: sa.PoolProxiedConnection, text: str, parameters: Mapping[str, object] = NOTHING
) -> Sequence[Row]:
    cursor = raw.driver_connection.cursor()  # type: ignore[union-attr]  # a pool's always has one
    cursor.execute(text, parameters)
    found: Sequence[Row] = cursor.fetchall()
    cursor.close()
    return found


def _in_one_value(query: sa.Select[Any]) -> Compiled:
    """All rows as one JSON array, in which JSON columns are the text that is stored."""
    columns = query.selected_columns
    names = ", ".join(f'"{column.key}"' for column in columns)
    inner = query.compile(dialect=sqlite.dialect(paramstyle="named"))
    text = f"SELECT CAST(json_group_array(json_array({names})) AS BLOB) FROM ({inner})"
    nested = [at for at, column in enumerate(columns) if isinstance(column.type, sa.JSON)]

    def decode(found: Sequence[Row]) -> Sequence[Row]:
        try:
            rows: list[list[Any]] = orjson.loads(found[0][0])
        except orjson.JSONDecodeError as problem:
            raise StoreDamaged(
                f"the catalogue holds what is no text: run `fewshot verify` ({problem})"
            ) from None
        for row in rows:
            for at in nested:
                if row[at] is not None:
                    row[at] = decoded(row[at])
        return rows

    return Compiled(text, _constants(inner), _as_json, decode)


def _as_json(values: Sequence[object]) -> str:
    try:
        return orjson.dumps(list(values)).decode()
    except TypeError:  # half a character in a name: nothing has such a name
        return json.dumps(list(values))


def _constants(compiled: sa.Compiled) -> Mapping[str, object]:
    return {name: value for name, value in (compiled.params or {}).items() if value is not None}
