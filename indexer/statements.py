"""Reads that every search makes: compiled once, their rows fetched in one go.

SQLAlchemy's own way costs three times what the database does, for each call anew. And SQLite gives the
interpreter away at every row: beside an embedding or a busy event loop, each of them is a wait. Here all
rows of a statement are one value, made by SQLite itself; PostgreSQL's driver has them all at once anyway.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from indexer.database import decoded
from indexer.errors import StoreDamaged

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

    def rows(self, engine: sa.Engine, **lists: Sequence[object]) -> Sequence[Row]:
        """All rows, of one moment. Raises SQLAlchemy's errors, and `StoreDamaged` for what is no text."""
        known = self.compiled(engine.dialect)
        parameters = {**known.constants, **{name: known.encode(some) for name, some in lists.items()}}
        errors = engine.dialect.loaded_dbapi.Error
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(known.text, parameters)
            found = cursor.fetchall()
            cursor.close()
        except BaseException as problem:
            raw.invalidate(problem)  # whatever is wrong with it, the next one gets another
            if not isinstance(problem, errors):
                raise
            raise sa.exc.DBAPIError.instance(
                known.text, parameters, problem, errors, dialect=engine.dialect
            ) from problem
        raw.close()
        return known.decode(found)

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
