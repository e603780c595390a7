"""A catalogue on PostgreSQL, for stores that several machines share: the only file that knows psycopg."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from indexer.errors import DatabaseRefused, StoreBusy

_WRITERS = 0x46455753  # the advisory lock of every write transaction of a catalogue
OLDEST = 13


def open_postgres(url: str) -> sa.Engine:
    """An engine on the database at `url`, `postgresql://user@host/name`.

    Reads are REPEATABLE READ, so that the reads of one transaction agree, as in SQLite. A password may be
    in the URL, in PGPASSWORD or in a password file. Raises `DatabaseRefused` when the driver is missing,
    nothing answers or the server is too old.
    """
    try:
        import psycopg  # noqa: F401  the driver that SQLAlchemy loads by name
    except ImportError as error:
        raise DatabaseRefused(
            "a catalogue on PostgreSQL needs the driver psycopg: pip install 'fewshot[postgres]'"
        ) from error
    try:
        target = sa.make_url(url).set(drivername="postgresql+psycopg")
    except sa.exc.ArgumentError as error:
        raise DatabaseRefused("the catalogue's URL is not like postgresql://user@host/name") from error
    engine = sa.create_engine(
        target,
        isolation_level="REPEATABLE READ",
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10},
    )
    try:
        with engine.connect() as connection:
            version = int(connection.execute(sa.text("SHOW server_version_num")).scalar_one()) // 10_000
    except sa.exc.OperationalError as error:
        engine.dispose()
        raise DatabaseRefused(
            f"the catalogue at {named(engine)} cannot be reached: {_said(error)}"
        ) from error
    if version < OLDEST:
        engine.dispose()
        raise DatabaseRefused(f"PostgreSQL {version} is too old for a catalogue: {OLDEST} or newer is needed")
    return engine


def named(engine: sa.Engine) -> str:
    """The database's URL without its password."""
    return engine.url.render_as_string(hide_password=True)


def begin_writing(connection: sa.Connection) -> None:
    """Wait until no other write transaction runs, as BEGIN IMMEDIATE does; the lock is the transaction's."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITERS})


@contextmanager
def sole(engine: sa.Engine, store_id: str, busy: str) -> Iterator[None]:
    """Be the store's only writer on any machine, or raise `StoreBusy` with that message.

    The lock is the session's: it ends with the connection, also when the process is killed.
    """
    key = int.from_bytes(hashlib.sha256(store_id.encode()).digest()[:8], signed=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one():
            raise StoreBusy(busy)
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _said(error: sa.exc.OperationalError) -> str:
    return " ".join(str(error.orig).split())
