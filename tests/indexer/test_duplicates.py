"""The same bytes under several paths: embedded once, found once, and found as long as one path is left."""

import json
from collections import Counter

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.deleting import delete_file, find_file
from indexer.ingest import ingest
from indexer.reading.reader import read
from indexer.splitting import Splitting
from indexer.verification import findings
from tests.indexer.conftest import CountingEmbedder, Watching


def found(searcher, text="ducks"):
    return [(hit.filename, hit.text) for hit in searcher.search(text, ["docs"], mode="keyword").hits]


def test_the_same_bytes_are_embedded_once_and_found_once(folder, put, embedder, searcher):
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text("Ducks swim.")
    (folder / "d.md").write_text("Ducks swim.")  # another suffix may read otherwise
    summary = put()
    assert embedder.embedded == 2
    assert [(problem.name, problem.message) for problem in summary.repeated] == [
        (name, f"same content as {folder / 'a.txt'}") for name in ("b.txt", "c.txt")
    ]
    assert sorted(found(searcher)) == [("a.txt", "Ducks swim."), ("d.md", "Ducks swim.")]
    assert put().unchanged == 4


def test_whichever_path_leaves_the_other_keeps_the_content(folder, put, embedder, searcher, catalogue):
    for first, second in (("a.txt", "b.txt"), ("b.txt", "a.txt")):
        for name in (first, second):
            (folder / name).write_text("Ducks swim.")
        put()
        before = embedder.embedded
        store = catalogue.store("docs")
        delete_file(catalogue, store, find_file(catalogue, store, first))
        assert found(searcher) == [(second, "Ducks swim.")]
        delete_file(catalogue, store, find_file(catalogue, store, second))
        assert found(searcher) == []
        assert embedder.embedded == before
        assert list(findings(catalogue, store)) == []


def test_a_file_that_changes_leaves_its_old_content_to_the_one_that_repeats_it(folder, put, searcher):
    rows = "".join(json.dumps({"id": str(n), "text": f"ducks {n}"}) + "\n" for n in range(3))
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text(rows)
    put()
    (folder / "a.jsonl").write_text(rows.replace("ducks 1", "ducks one"))
    put()
    assert sorted(found(searcher)) == [
        ("a.jsonl", "ducks 0"), ("a.jsonl", "ducks 2"), ("a.jsonl", "ducks one"),
        ("b.jsonl", "ducks 0"), ("b.jsonl", "ducks 1"), ("b.jsonl", "ducks 2"),
    ]  # fmt: skip


def test_a_moved_file_is_not_embedded_again(folder, put, embedder, searcher, catalogue):
    (folder / "old.txt").write_text("Ducks swim.")
    put()
    (folder / "old.txt").rename(folder / "new.txt")
    put()
    store = catalogue.store("docs")
    delete_file(catalogue, store, find_file(catalogue, store, "old.txt"))
    assert embedder.embedded == 1
    assert found(searcher) == [("new.txt", "Ducks swim.")]


def test_a_file_with_errors_is_not_relied_on(folder, put, searcher):
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text('{"id": "1", "text": "ducks"}\nbroken\n')
    summary = put()
    assert [problem.name for problem in summary.errors] == ["a.jsonl", "b.jsonl"]
    assert sorted(found(searcher)) == [("a.jsonl", "ducks"), ("b.jsonl", "ducks")]


NAMES = ("a.txt", "b.txt", "c.txt", "d.txt")
TEXTS = ("ducks", "geese", "swans")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(TEXTS)),
        st.tuples(st.just("ingest"), st.sets(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_the_store_finds_exactly_what_its_files_say_each_once(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("machine")
    catalogue, embedder = Catalogue(folder / "data"), CountingEmbedder()
    disk: dict[str, str] = {}
    stored: dict[str, str] = {}
    catalogue.claim("docs", embedder)
    for what, *given_ in steps:
        store = catalogue.store("docs")
        if what == "write":
            name, text = given_
            disk[name] = text
            (folder / name).write_text(text)
        elif what == "ingest":
            paths = [folder / name for name in sorted(given_[0]) if name in disk]
            if paths:
                ingest(catalogue, "docs", paths, embedder, _read, Splitting(), Watching())
                stored |= {path.name: disk[path.name] for path in paths}
        elif stored.pop(given_[0], None) is not None:
            delete_file(catalogue, store, find_file(catalogue, store, given_[0]))
        assert _texts(catalogue) == Counter(set(stored.values())), steps
        assert list(findings(catalogue, catalogue.store("docs"))) == []
    catalogue.close()


def _texts(catalogue: Catalogue) -> Counter[str]:
    chunks = schema.chunks
    with catalogue.engine.connect() as connection:
        return Counter(connection.execute(sa.select(chunks.c.text).where(chunks.c.died.is_(None))).scalars())


def _read(data, name, first_line=1):
    return read(data, name, first_line)
