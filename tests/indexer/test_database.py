"""The gate before the data."""

import pytest
import sqlalchemy as sa

from indexer.database import check_library, check_schema, open_database, writing
from indexer.errors import DatabaseRefused


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2), (3, 52, 0)])
def test_sqlite_that_loses_writes_is_refused(version):
    with pytest.raises(DatabaseRefused, match="pysqlite3"):
        check_library(version)


def test_every_connection_is_durable_and_strict(tmp_path):
    engine = open_database(tmp_path / "deep" / "x.db")
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "trusted_schema": 0,
        "busy_timeout": 5000,
    }
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            found = {name: connection.execute(sa.text(f"PRAGMA {name}")).scalar() for name in expected}
            assert found == expected
    engine.dispose()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    engine = open_database(tmp_path / "x.db")
    with writing(engine) as connection:
        connection.execute(sa.text("CREATE TABLE t (a)"))

    def fail() -> None:
        with writing(engine) as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
    engine.dispose()


def test_a_database_of_newer_code_is_refused(tmp_path):
    engine = open_database(tmp_path / "x.db")
    check_schema(engine, 2)
    check_schema(engine, 3)
    with pytest.raises(DatabaseRefused, match="upgrade"):
        check_schema(engine, 2)
    engine.dispose()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(DatabaseRefused, match=r"x\.db"):
        open_database(tmp_path / "x.db")
