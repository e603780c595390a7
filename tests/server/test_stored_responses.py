"""Stored responses, and the journal file of the release before they were."""

import hmac

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from indexer.database import check_schema, open_database
from indexer.errors import DatabaseRefused
from indexer.upgrading import backups
from server.errors import NotFound
from server.forgetting import erase_texts
from server.journal import Journal
from server.keys import Keys
from server.migrations.versions import v1_journal
from server.schema import VERSION, metadata, open_schema, responses
from server.stored_responses import StoredResponse, StoredResponses


def stored(response_id, previous=None):
    return StoredResponse(response_id, previous, [{"id": f"msg_{response_id}"}], {"id": response_id})


@pytest.fixture
def store(tmp_path):
    return StoredResponses(open_database(tmp_path / "journal.db"), retention_days=30)


def test_a_chain_is_read_from_its_first_response(store):
    for response_id, previous in (("a", None), ("b", "a"), ("c", "b")):
        store.save("t", stored(response_id, previous))
    assert [link.id for link in store.chain("t", "c")] == ["a", "b", "c"]
    store.delete("t", "a")
    with pytest.raises(NotFound):
        store.chain("t", "c")


def test_another_tenants_response_is_not_there(store):
    store.save("t", stored("a"))
    for call in (store.get, store.delete, store.chain):
        with pytest.raises(NotFound) as foreign:
            call("other", "a")
        with pytest.raises(NotFound) as absent:
            call("t", "nope")
        assert str(foreign.value) == str(absent.value)
    assert store.get("t", "a") == stored("a")


def test_what_is_over_its_days_is_gone_from_the_file(tmp_path):
    engine = open_database(tmp_path / "journal.db")
    StoredResponses(engine, retention_days=-1).save("t", stored("old"))
    kept = StoredResponses(engine, retention_days=1)
    with pytest.raises(NotFound):
        kept.get("t", "old")
    kept.save("t", stored("new"))
    with engine.connect() as connection:
        assert connection.execute(sa.select(responses.c.id)).scalars().all() == ["new"]


def test_erasing_a_chunk_takes_the_responses_that_show_it(tmp_path, store):
    shows = {"output": [{"results": [{"text": "secret", "fewshot": {"chunk_id": "ch_a"}}]}]}
    store.save("t", StoredResponse("a", None, [], shows))
    store.save("t", stored("b"))
    assert erase_texts(open_database(tmp_path / "journal.db"), ["ch_a"]) == 0
    assert store.get("t", "b")
    with pytest.raises(NotFound):
        store.get("t", "a")


def test_the_revisions_make_the_tables_that_the_code_reads(tmp_path):
    engine = open_database(tmp_path / "journal.db")
    open_schema(engine)
    found = sa.inspect(engine)
    for table in metadata.sorted_tables:
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        indexed = {index["column_names"][0] for index in found.get_indexes(table.name)}
        assert indexed == {next(iter(index.columns)).name for index in table.indexes}


def old_key(engine):
    """A key as 0.1.0 wrote it down, in the table that it made outside the revisions."""
    key = "fsk_0123abcd_secret"
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE keys (prefix TEXT NOT NULL, digest BLOB NOT NULL, tenant TEXT NOT NULL,"
                " scopes TEXT NOT NULL, created_at FLOAT NOT NULL, expires_at FLOAT, revoked_at FLOAT,"
                " PRIMARY KEY (prefix))"
            )
        )
        connection.execute(
            sa.text("INSERT INTO keys VALUES ('0123abcd', :digest, 't', 'infer', 1, NULL, NULL)"),
            {"digest": hmac.digest(b"p", key.encode(), "sha256")},
        )
    return key


def make_old_tables(engine):
    """The journal's tables as the first revision makes them."""
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        v1_journal.upgrade()


@pytest.mark.parametrize("keys_first", [True, False])
def test_a_journal_of_release_0_1_0_is_upgraded_with_a_copy_beside_it(tmp_path, keys_first):
    path = tmp_path / "journal.db"
    engine = open_database(path)
    key = old_key(engine) if keys_first else None
    check_schema(engine, 1)  # as 0.1.0 did it
    make_old_tables(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO exposures (turn, at, tenant, unit, unit_kind, model, metadata)"
                " VALUES ('chatcmpl-1', 1, 't', 'u', 'request', 'm', '{}')"
            )
        )
    engine.dispose()
    journal = Journal(open_database(path), secret=b"s")
    found = journal.find("chatcmpl-1")
    journal.close()
    assert found["exposures.tenant"] == "t"
    assert len(backups(path)) == 1
    again = open_database(path)
    assert sa.inspect(again).has_table("responses")
    assert key is None or Keys(again, pepper=b"p").check(key).scopes == {"infer"}


def test_keys_made_before_the_first_start_of_0_1_0_outlive_the_upgrade(tmp_path):
    path = tmp_path / "journal.db"
    key = old_key(open_database(path))
    assert Keys(open_database(path), pepper=b"p").check(key).tenant == "t"


def test_a_journal_of_a_newer_release_is_left_alone(tmp_path):
    engine = open_database(tmp_path / "journal.db")
    check_schema(engine, VERSION + 1)
    with pytest.raises(DatabaseRefused, match="upgrade fewshot"):
        open_schema(engine)
