"""Files in, hits out."""

import json
import os

from indexer import sources
from indexer.verification import findings
from tests.indexer.conftest import Watching


def rows(*documents: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in documents)


def test_a_folder_is_searchable_after_ingest(folder, put, searcher):
    (folder / "ducks.txt").write_text("Ducks are birds that swim on ponds.")
    (folder / "deep").mkdir()
    (folder / "deep" / "whales.md").write_text("# Whales\n\nWhales are mammals of the sea.")
    summary = put()
    assert (summary.documents, summary.errors) == (2, ())
    [hit, *_] = searcher.search("mammals of the sea", ["docs"]).hits
    assert (hit.filename, hit.title) == ("deep/whales.md", "Whales")
    assert hit.text.endswith("of the sea.")


def test_unchanged_files_are_not_embedded_again(folder, put, embedder):
    (folder / "rows.jsonl").write_text(rows({"id": "a", "text": "one"}, {"id": "b", "text": "two"}))
    put()
    before = embedder.embedded
    again = put()
    assert embedder.embedded == before == 2
    assert (again.documents, again.unchanged) == (0, 1)


def test_only_the_changed_row_is_embedded_and_the_removed_one_is_gone(folder, put, embedder, searcher):
    path = folder / "rows.jsonl"
    path.write_text(rows(*({"id": str(n), "text": f"text number {n}"} for n in range(5))))
    put()
    path.write_text(rows(*({"id": str(n), "text": f"text number {n}" + "!" * (n == 2)} for n in range(4))))
    before = embedder.embedded
    put()
    assert embedder.embedded == before + 1
    found = searcher.search("text number", ["docs"]).hits
    assert sorted(hit.external_id for hit in found) == ["0", "1", "2", "3"]
    assert {hit.text for hit in found if hit.external_id == "2"} == {"text number 2!"}


def test_one_bad_file_fails_alone_and_by_name(folder, put, searcher):
    (folder / "bad.pdf").write_bytes(b"%PDF-1.4 nothing else")
    (folder / "good.txt").write_text("Something good.")
    summary = put()
    assert [problem.name for problem in summary.errors] == ["bad.pdf"]
    assert searcher.search("good", ["docs"]).hits[0].filename == "good.txt"


def test_the_store_verifies_after_replacements(folder, put, catalogue):
    for turn in range(3):
        for n in range(4):
            (folder / f"{n}.txt").write_text(f"document {n} version {turn % (n + 1)}")
        put()
    assert list(findings(catalogue, catalogue.store("docs"))) == []


def test_hidden_files_and_pipes_are_left_out_and_broken_links_are_named(folder, put):
    (folder / ".hidden.txt").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("secret")
    os.mkfifo(folder / "pipe.txt")
    (folder / "link.txt").symlink_to(folder / "gone.txt")
    (folder / "seen.txt").write_text("seen")
    watch = Watching()
    summary = put(watch=watch)
    assert watch.names == ["link.txt", "seen.txt"]
    assert [problem.name for problem in summary.errors] == ["link.txt"]


def test_failing_again_publishes_nothing(folder, put):
    (folder / "bad.rtf").write_text("{\\rtf1}")
    put()
    watch = Watching()
    assert len(put(watch=watch).errors) == 1
    assert watch.batches == [(0, 0, 0)]


def test_the_same_id_twice_is_an_error_and_the_first_is_kept(folder, put, searcher):
    (folder / "r.jsonl").write_text(rows({"id": "a", "text": "first"}, {"id": "a", "text": "second"}))
    assert "two rows have the id 'a'" in put().errors[0].message
    assert [hit.text for hit in searcher.search("first second", ["docs"]).hits] == ["first"]


def test_a_large_jsonl_file_is_read_in_parts(folder, put, monkeypatch):
    monkeypatch.setattr(sources, "PART_BYTES", 100)
    text = rows(*({"id": str(n), "text": f"text number {n}"} for n in range(50))) + "broken\n"
    (folder / "r.jsonl").write_text(text)
    summary = put()
    assert summary.documents == 50
    assert [problem.message.partition(":")[0] for problem in summary.errors] == ["line 51"]


def test_a_batch_grows_with_a_quick_embedder_but_not_while_reading_is_slow(folder, put, monkeypatch):
    from indexer import ingest

    monkeypatch.setattr(ingest, "BATCH_CHUNKS", 10)
    (folder / "r.jsonl").write_text(rows(*({"id": str(n), "text": f"number {n}"} for n in range(100))))
    quick, slow = Watching(), Watching()
    put(store="quick", watch=quick)
    monkeypatch.setattr(ingest, "BATCH_SECONDS", 0.0)
    put(store="slow", watch=slow)
    assert [chunks for _, _, chunks in slow.batches] == [10] * 10 + [0] * (len(slow.batches) - 10)
    assert [chunks for _, _, chunks in quick.batches] == [10, 90]
