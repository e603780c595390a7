"""The one door to SQLite: which library, which settings, which schema version; and what writing means.

One SQLite per process: two copies of the library break each other's POSIX locks
(sqlite.org/howtocorrupt.html), so the standard `sqlite3` module never opens our files.
"""

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite  # type: ignore[import-untyped]
import sqlalchemy as sa

from indexer.durability import make_folder
from indexer.errors import DatabaseRefused, StoreBusy
from indexer.postgres import begin_writing

PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "trusted_schema=OFF",
    "busy_timeout=5000",
)
OLDEST = (3, 51, 3)  # up to 3.51.2, WAL mode can lose committed writes (sqlite.org/wal.html)
WITHDRAWN = (3, 52, 0)
_READ = json.JSONDecoder().raw_decode  # `loads` without its three steps around it
_FULL = ("database or disk is full", "disk I/O error")
LIBRARY: tuple[int, ...] = sqlite.sqlite_version_info


def check_library(version: tuple[int, ...] = LIBRARY) -> None:
    """Raise `DatabaseRefused` unless this SQLite keeps committed writes in WAL mode."""
    if version < OLDEST or version == WITHDRAWN:
        found = ".".join(map(str, version))
        raise DatabaseRefused(
            f"SQLite {found} can lose committed writes in WAL mode; 3.51.3 or newer (not 3.52.0) is needed: "
            "install the package pysqlite3 0.6.1 or newer"
        )


def open_database(path: Path) -> sa.Engine:
    """An engine on the database at `path`, created if missing, with its folder.

    Raises `DatabaseRefused` when the library is unsafe or the file is not a database.
    """
    check_library()
    make_folder(path.parent)
    engine = sa.create_engine(
        f"sqlite:///{path}",
        module=sqlite,
        json_deserializer=decoded,
        connect_args={"check_same_thread": False, "timeout": 5.0},
        poolclass=sa.QueuePool,
        pool_size=8,
        max_overflow=24,
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM sqlite_master"))
    except sa.exc.DatabaseError as error:
        engine.dispose()
        raise DatabaseRefused(
            f"{path} cannot be opened as a database ({error.orig}); restore it from a backup, or move it away"
        ) from error
    return engine


def check_schema(engine: sa.Engine, version: int) -> None:
    """Raise `DatabaseRefused` if the file was written by newer code; stamp an unstamped file."""
    with writing(engine) as connection:
        found = int(connection.execute(sa.text("PRAGMA user_version")).scalar_one())
        if found > version:
            raise DatabaseRefused(
                f"{engine.url.database} has schema {found}, this release knows {version}: "
                "upgrade fewshot, or restore the backup taken before the upgrade"
            )
        if found < version:
            connection.execute(sa.text(f"PRAGMA user_version = {int(version)}"))


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One write transaction: takes the write lock at its start, commits at the end."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # What the waiting ones see must be newer than the wait: not a snapshot from before it.
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                begin_writing(connection)
                yield connection
        else:
            connection = connection.execution_options(immediate=True)
            with connection.begin():
                yield connection


class Appender:
    """Write transactions of one thread, one after the other on a connection that it keeps.

    SQLAlchemy's way into and out of a transaction costs more than half of one row's; and all of it is
    Python, which whoever waits for the row competes with. PostgreSQL's goes by `writing`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._raw: sa.PoolProxiedConnection | None = None

    def commit(self, said: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """One transaction of the driver's statements, each with its rows. Raises SQLAlchemy's errors."""
        if self._engine.dialect.name != "sqlite":
            with writing(self._engine) as connection:
                for statement, rows in said:
                    connection.exec_driver_sql(statement, rows)
            return
        if self._raw is None:
            self._raw = self._engine.raw_connection()
        driver: Any = self._raw.driver_connection
        at = "BEGIN IMMEDIATE"
        try:
            if len(said) == 1 and len(said[0][1]) == 1:
                # A transaction by itself, within one call: between calls others take the interpreter, and a
                # disk that could be writing beside them waits until it is this thread's turn again.
                at, [row] = said[0]
                driver.execute(at, row)
                return
            driver.execute(at)
            for at, rows in said:
                driver.executemany(at, rows)
            driver.execute("COMMIT")
        except BaseException as problem:
            raw, self._raw = self._raw, None
            raw.invalidate(problem)  # closed, which rolls back; the next one gets another
            if not isinstance(problem, sqlite.Error):
                raise
            raise sa.exc.DBAPIError.instance(
                at, None, problem, sqlite.Error, dialect=self._engine.dialect
            ) from problem

    def close(self) -> None:
        """Give the connection back."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def shrink(engine: sa.Engine) -> None:
    """Leave no deleted byte in the file or its log; needs as much free disk as the file is large.

    `secure_delete` clears what is freed, but not what moved between pages: only writing the file
    again does. Raises `StoreBusy` when a reader holds on to the log. PostgreSQL keeps a log of its own.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM FULL"))
        return
    raw = engine.raw_connection()  # no transaction: neither statement may be in one
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        for _ in range(4):  # each waits as long as busy_timeout says
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            [(busy, *_)] = cursor.fetchall()
            if not busy:
                return
    finally:
        raw.close()
    raise StoreBusy(f"{engine.url.database} is being read: its log still holds what was deleted; purge again")


def is_full(problem: BaseException) -> bool:
    """Whether this, or what caused it, is a disk without space: the system's word for it, or SQLite's."""
    known: BaseException | None = problem
    while known is not None:
        if isinstance(known, OSError) and known.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(known, ValueError) and "os error 28" in str(known):  # of tantivy
            return True
        # Where the log's index cannot grow, SQLite speaks of the disk's input and output.
        if isinstance(known, sqlite.OperationalError) and str(known) in _FULL:
            return True
        known = known.__cause__ or known.__context__
    return False


def decoded(value: str) -> Any:
    """What a JSON column holds; most are empty, and a search reads hundreds."""
    if value == "[]":
        return []
    if value == "{}":
        return {}
    try:
        read, end = _READ(value)
    except (ValueError, TypeError):  # said by the one who reads all of it
        end = -1
    return read if end == len(value) else json.loads(value)


def _prepare(raw: Any, _record: object) -> None:
    raw.isolation_level = None  # we begin our own transactions, see _begin
    for pragma in PRAGMAS:
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    # A deferred transaction that turns into a writer fails at once instead of waiting its turn.
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
