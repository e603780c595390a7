"""Databases of older releases brought to this one's schema: forward only, in one transaction.

The revisions are alembic's; their numbers are also the file's `user_version`, which releases
that know nothing of alembic look at before they touch a file.
"""

import os
import threading
from pathlib import Path

import sqlalchemy as sa

from indexer.database import writing
from indexer.errors import DatabaseRefused

_ONE_AT_A_TIME = threading.Lock()  # alembic keeps the running migration in module globals


def upgrade(engine: sa.Engine, revisions: Path, newest: int) -> None:
    """Bring the database to revision `newest`; `revisions` is an alembic folder that ends with it.

    An SQLite file of an older release is copied to `<name>.before-<newest>` first (PostgreSQL has backups
    of its own). Killed at any moment, the database is the old one or the new one. Raises
    `DatabaseRefused` when it is of a newer release.
    """
    if _revision(engine, newest) == newest:
        return
    with _ONE_AT_A_TIME, writing(engine) as connection:
        found = _found(connection, newest)
        if found == newest:
            return  # another process was faster
        if found and engine.dialect.name == "sqlite":
            _back_up(engine, newest)
        _run(connection, revisions, found, newest)
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text(f"PRAGMA user_version = {int(newest)}"))


def backups(path: Path) -> list[Path]:
    """Copies of the database that upgrades left beside it."""
    return sorted(path.parent.glob(f"{path.name}.before-*"))


def _revision(engine: sa.Engine, newest: int) -> int:
    with engine.connect() as connection:
        return _found(connection, newest)


def _found(connection: sa.Connection, newest: int) -> int:
    if connection.dialect.name == "sqlite":
        found = int(connection.execute(sa.text("PRAGMA user_version")).scalar_one())
    elif sa.inspect(connection).has_table("alembic_version"):
        found = int(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())
    else:
        found = 0
    if found > newest:
        raise DatabaseRefused(
            f"{connection.engine.url.database} has schema {found}, this release knows {newest}: "
            "upgrade fewshot, or restore the backup taken before the upgrade"
        )
    return found


def _run(connection: sa.Connection, revisions: Path, found: int, newest: int) -> None:
    from alembic import command  # an eighth of a second, and only a new or old file needs it
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(revisions).replace("%", "%%"))
    config.attributes["connection"] = connection
    if found and not sa.inspect(connection).has_table("alembic_version"):
        command.stamp(config, str(found))  # written before the revisions had names
    command.upgrade(config, str(newest))


def _back_up(engine: sa.Engine, newest: int) -> None:
    """A copy of what is committed, complete or absent under its name."""
    path = Path(str(engine.url.database))
    target = path.with_name(f"{path.name}.before-{newest}")
    unfinished = target.with_name(f"{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("VACUUM INTO ?", (str(unfinished),))
    finally:
        raw.close()
    handle = os.open(unfinished, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    unfinished.rename(target)
