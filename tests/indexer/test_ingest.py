"""Files in, hits out."""

import json

from indexer.verification import findings


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
