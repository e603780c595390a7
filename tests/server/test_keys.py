"""Keys: shown once, checked in one way, revoked at once."""

import stat

import pytest

from indexer.database import open_database
from server.keys import Keys, read_secret
from server.quotas import Rates
from server.refusal import Refusal
from server.schema import keys


@pytest.fixture
def book(tmp_path):
    engine = open_database(tmp_path / "journal.db")
    yield Keys(engine, pepper=b"pepper")
    engine.dispose()


def test_a_key_gives_what_it_was_made_for(book):
    key = book.check(book.create(tenant="acme", scopes=["infer", "audit"]))
    assert key is not None
    assert (key.tenant, key.scopes) == ("acme", {"infer", "audit"})


@pytest.mark.parametrize("presented", ["", "fsk_", "fsk_x_y", "sk-123", "fsk_" + "a" * 500])
def test_what_is_no_key_is_nobody(book, presented):
    assert book.check(presented) is None


def test_the_database_never_holds_the_key(book):
    made = book.create(tenant="t", scopes=["infer"])
    with book._engine.connect() as connection:
        row = connection.execute(keys.select()).one()
    assert made.encode() not in repr(row).encode()


def test_a_key_with_a_changed_secret_is_nobody(book):
    made = book.create(tenant="t", scopes=["infer"])
    assert book.check(made[:-1] + ("A" if made[-1] != "A" else "B")) is None


def test_revoked_and_expired_keys_are_nobody(book):
    revoked = book.create(tenant="t", scopes=["infer"])
    assert book.revoke(revoked.split("_")[1])
    assert not book.revoke(revoked.split("_")[1])
    assert book.check(revoked) is None
    assert book.check(book.create(tenant="t", scopes=["infer"], days=-1)) is None


def test_a_scope_that_does_not_exist_is_refused(book):
    with pytest.raises(ValueError, match="no scope root"):
        book.create(tenant="t", scopes=["root"])


def test_the_secret_is_private_and_stays(tmp_path):
    first = read_secret(tmp_path / "new")
    assert read_secret(tmp_path / "new") == first
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "new" / "secret").stat().st_mode) == 0o600


def test_a_secret_that_others_may_read_or_that_is_empty_is_refused(tmp_path):
    read_secret(tmp_path)
    (tmp_path / "secret").chmod(0o640)
    with pytest.raises(Refusal, match="chmod 600"):
        read_secret(tmp_path)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(Refusal, match="damaged"):
        read_secret(tmp_path)


def test_a_key_knows_its_name_its_limits_and_its_last_use(book):
    made = book.create(
        tenant="t", scopes=["files", "infer"], name="nightly", days=2, rates=Rates(60, 0, None)
    )
    (fresh,) = book.list()
    assert (fresh.name, fresh.state, fresh.rates, fresh.used_at) == (
        "nightly",
        "active",
        Rates(60, 0, None),
        None,
    )
    assert fresh.expires_at - fresh.created_at == 2 * 86400
    assert book.check(made).rates == Rates(60, 0, None)
    (used,) = book.list()
    assert used.used_at >= used.created_at
    book.check(made[:-1] + "~")  # whoever has no key leaves no trace on it
    assert book.list() == (used,)


@pytest.mark.parametrize("tenant", ["", "a b", "x" * 65, "../a", "a\n"])
def test_what_is_no_tenant_gets_no_key(book, tenant):
    with pytest.raises(ValueError, match="tenant"):
        book.create(tenant=tenant, scopes=["infer"])


def test_a_book_that_cannot_be_written_still_lets_callers_in(book):
    made = book.create(tenant="t", scopes=["infer"])
    with book._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    assert book.check(made)
