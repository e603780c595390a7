"""Gone from search when the call returns, gone from the disk after a purge."""

import json
import threading
import time

import pytest
import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import FILE, Catalogue
from indexer.compaction import merge_when_many
from indexer.deleting import delete_document, delete_file, delete_files, delete_store, find_file
from indexer.erasure import forget, purge, wanted
from indexer.errors import StoreBusy, UnknownDocument, UnknownFile, UnknownStore
from indexer.generations import MIGRATING
from indexer.locks import held
from indexer.publishing import writer
from indexer.segments import stores_folder
from indexer.verification import findings
from tests.indexer.releases import RELEASE_0_1_0, write_release


def rows(connection: sa.Connection, *tables: sa.Table) -> list[int]:
    return [
        connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables
    ]


def texts(searcher, query, *stores):
    return [hit.text for hit in searcher.search(query, stores or ["docs"]).hits]


@pytest.fixture
def two(put, folder):
    (folder / "ducks.txt").write_text("Ducks swim in the pond.")
    (folder / "geese.txt").write_text("Geese swim in the lake.")
    put()
    return folder


def test_a_deleted_file_is_not_found_by_a_searcher_that_has_its_generation_open(two, catalogue, searcher):
    assert len(texts(searcher, "swim")) == 2
    store = catalogue.store("docs")
    deleted = delete_file(catalogue, store, find_file(catalogue, store, "ducks.txt"))
    assert (deleted.files, deleted.documents, deleted.chunks) == (1, 1, 1)
    assert texts(searcher, "swim") == ["Geese swim in the lake."]
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    assert catalogue.counts(store).files == 1


def test_a_file_is_named_by_id_path_or_name(two, catalogue):
    store = catalogue.store("docs")
    by_name = find_file(catalogue, store, "ducks.txt")
    assert find_file(catalogue, store, str(two / "ducks.txt")) == by_name
    assert find_file(catalogue, store, by_name) == by_name
    with pytest.raises(UnknownFile, match="see `fewshot stores show docs --files`"):
        find_file(catalogue, store, "swans.txt")


def test_a_name_that_two_files_have_is_not_guessed(put, catalogue, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(f"This is {name}.")
        put(tmp_path / name)
    with pytest.raises(UnknownFile, match="say which"):
        find_file(catalogue, catalogue.store("docs"), "same.txt")


def test_a_deleted_file_that_is_ingested_again_is_another_file(two, put, catalogue, searcher):
    store = catalogue.store("docs")
    old = find_file(catalogue, store, "ducks.txt")
    delete_file(catalogue, store, old)
    with pytest.raises(UnknownFile):
        delete_file(catalogue, catalogue.store("docs"), old)
    put()
    assert find_file(catalogue, store, "ducks.txt") != old
    assert len(texts(searcher, "swim")) == 2


def test_a_deleted_row_stays_away_until_its_file_changes(put, folder, catalogue, searcher):
    lines = [json.dumps({"id": str(n), "text": f"number {n} swims"}) for n in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    put()
    store = catalogue.store("docs")
    hit = searcher.search("number 1", ["docs"], top=1).hits[0]
    assert delete_document(catalogue, store, hit.chunk_id).chunks == 1
    assert delete_document(catalogue, catalogue.store("docs"), "2").documents == 1
    put()
    assert texts(searcher, "swims") == ["number 0 swims"]
    for gone in ("2", hit.chunk_id, "ch_none"):
        with pytest.raises(UnknownDocument, match="has no document"):
            delete_document(catalogue, catalogue.store("docs"), gone)
    (folder / "rows.jsonl").write_text("\n".join([*lines, "\n"]))
    put()
    assert len(texts(searcher, "swims")) == 3


def test_a_deleted_store_frees_its_name(two, put, catalogue, searcher):
    store = catalogue.store("docs")
    assert texts(searcher, "swim")
    delete_store(catalogue, store)
    with pytest.raises(UnknownStore):
        texts(searcher, "swim")
    with pytest.raises(UnknownStore, match="already"):
        delete_store(catalogue, store)
    (two / "geese.txt").unlink()
    put()
    assert texts(searcher, "swim") == ["Ducks swim in the pond."]
    assert catalogue.store("docs").id != store.id


def test_a_purge_leaves_no_row_and_no_folder_of_what_was_deleted(two, put, data, catalogue, searcher):
    put(two, store="other")
    store = catalogue.store("docs")
    delete_file(catalogue, store, find_file(catalogue, store, "ducks.txt"))
    delete_store(catalogue, catalogue.store("other"))
    purged = purge(catalogue)
    assert (purged.chunks, purged.segments, purged.stores) == (3, 1, 1)
    with catalogue.engine.connect() as connection:
        tables = (
            schema.stores,
            schema.files,
            schema.documents,
            schema.chunks,
            schema.segments,
            schema.series,
        )
        assert rows(connection, *tables) == [1] * 6
    assert [path.name for path in (data / "stores").iterdir()] == [store.id]
    assert len([path for path in (data / "stores" / store.id).iterdir() if path.is_dir()]) == 1
    assert texts(searcher, "swim") == ["Geese swim in the lake."]
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    assert purge(catalogue) == (0, 0, 0)


def test_everything_can_be_deleted(two, put, catalogue, searcher):
    store = catalogue.store("docs")
    delete_files(catalogue, store, [find_file(catalogue, store, name) for name in ("ducks.txt", "geese.txt")])
    purge(catalogue)
    assert texts(searcher, "swim") == []
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    put()
    assert len(texts(searcher, "swim")) == 2


def test_what_was_said_is_known_by_key_until_all_let_go_of_it(two, put, catalogue, searcher):
    old = searcher.search("ducks", ["docs"], top=1).hits[0].chunk_id
    (two / "ducks.txt").write_text("Ducks dive in the pond.")
    put()
    new = searcher.search("ducks", ["docs"], top=1).hits[0].chunk_id
    purge(catalogue)
    assert wanted(catalogue) == []  # replaced, not deleted
    store = catalogue.store("docs")
    delete_file(catalogue, store, find_file(catalogue, store, "ducks.txt"))
    assert sorted(wanted(catalogue)) == sorted([old, new])
    purge(catalogue)
    assert sorted(wanted(catalogue)) == sorted([old, new])
    forget(catalogue, before=int(time.time()) - 60)
    assert len(wanted(catalogue)) == 2
    forget(catalogue, before=int(time.time()) + 60)
    assert wanted(catalogue) == []


def test_a_delete_does_not_wait_for_an_ingest_but_a_purge_is_refused(two, catalogue, searcher):
    store = catalogue.store("docs")
    with writer(catalogue, store):
        delete_file(catalogue, store, find_file(catalogue, store, "ducks.txt"))
        assert texts(searcher, "swim") == ["Geese swim in the lake."]
        with pytest.raises(StoreBusy, match="another ingest"):
            purge(catalogue)
    with (
        held(stores_folder(catalogue.data, store.id) / MIGRATING, "x"),
        pytest.raises(StoreBusy, match="moved to another embedder"),
    ):
        purge(catalogue)
    purge(catalogue)


def test_a_purge_takes_the_copies_that_upgrades_left(data):
    write_release(
        data / FILE,
        RELEASE_0_1_0.replace('\'{"ids": ["f00d", 5]}\'', "'{}'").replace(
            "INSERT INTO segments VALUES ('seg', 'vs_1', 3, '{}', 1);", ""
        ),
    )
    catalogue = Catalogue(data)
    assert list(data.glob("*.before-*"))
    purge(catalogue)
    assert not list(data.glob("*.before-*"))
    catalogue.close()


def test_a_purge_empties_the_log_though_another_connection_is_open(two, catalogue, data, searcher):
    store = catalogue.store("docs")
    texts(searcher, "swim")
    delete_file(catalogue, store, find_file(catalogue, store, "ducks.txt"))
    purge(catalogue)
    assert (data / f"{FILE}-wal").stat().st_size == 0


def test_segments_that_are_mostly_dead_are_rewritten_by_themselves(put, folder, catalogue, embedder):
    rows = [json.dumps({"id": str(n), "text": f"row {n}"}) for n in range(40)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    put()
    for n in range(20):
        delete_document(catalogue, catalogue.store("docs"), str(n))
    store = catalogue.store("docs")
    assert len(catalogue.dead(store.id)) == 20
    merge_when_many(catalogue, store)
    assert len(catalogue.dead(store.id)) == 0
    assert [segment.chunks for segment in catalogue.segments(store.current)] == [20]
    assert list(findings(catalogue, catalogue.store("docs"))) == []


def test_searches_during_deletes_never_fail_and_never_show_what_is_gone(put, folder, catalogue, searcher):
    rows = [json.dumps({"id": str(n), "text": f"row {n} swims"}) for n in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    put()
    store = catalogue.store("docs")
    gone: set[str] = set()
    wrong: list[str] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            before = set(gone)
            found = {hit.external_id for hit in searcher.search("row swims", ["docs"], top=60).hits}
            wrong.extend(before & found)

    thread = threading.Thread(target=search)
    thread.start()
    for n in range(30):
        delete_document(catalogue, store, str(n))
        gone.add(str(n))
        if n % 10 == 9:
            purge(catalogue, store)
    done.set()
    thread.join()
    assert wrong == []
    assert len(searcher.search("row swims", ["docs"], top=60).hits) == 30
