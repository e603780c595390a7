"""The gate before the data."""

import pytest
import sqlalchemy as sa

from indexer.database import Appender, check_library, check_schema, open_database, writing
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


def test_what_an_appender_commits_is_all_there_or_not_at_all(tmp_path):
    engine = open_database(tmp_path / "rows.db")
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    insert = "INSERT INTO rows VALUES (?, ?)"
    appender = Appender(engine)

    def there():
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT id FROM rows ORDER BY id").scalars().all()

    appender.commit([(insert, [(1, "a"), (2, "b")]), (insert, [(3, "c")])])
    with pytest.raises(sa.exc.IntegrityError):
        appender.commit([(insert, [(4, "d")]), (insert, [(1, "again")])])
    assert there() == [1, 2, 3]
    appender.commit([(insert, [(5, "e")])])
    appender._raw.driver_connection.execute("PRAGMA busy_timeout = 0")  # else it waits for seconds
    with writing(engine), pytest.raises(sa.exc.OperationalError, match="locked"):
        appender.commit([(insert, [(6, "f")])])
    appender.commit([(insert, [(7, "g")])])
    assert there() == [1, 2, 3, 5, 7]
    appender.close()
    engine.dispose()
