"""Keys: shown once, checked in one way, revoked at once."""

import stat

import pytest

from indexer.database import open_database
from server.keys import Keys, keys, read_secret


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
