"""What a searcher promises."""

import json
import threading
from itertools import pairwise

import pytest

from indexer.deleting import delete_document
from indexer.erasure import purge
from indexer.errors import EmbedderMismatch, UnknownStore
from indexer.hash_embedder import HashEmbedder
from indexer.keywords import match
from indexer.search import Refinement, Searcher
from indexer.snapshots import Snapshots


@pytest.fixture
def corpus(folder):
    """Forty small documents as rows."""
    rows = [
        {"id": f"d{n}", "title": f"Title {n}", "text": f"common words and number{n} of colour{n % 7}", "n": n}
        for n in range(40)
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_dense_search_is_exact(corpus, put, searcher, embedder):
    put()
    found = searcher.search("number3 of colour3", ["docs"], mode="dense", top=40).hits
    vector = embedder.query("number3 of colour3")
    texts = [f"{hit.title}\n{hit.text}" for hit in found]
    cosines = embedder.passages(texts) @ vector
    assert len(found) == 40
    assert all(after <= before + 1e-6 for before, after in pairwise(cosines))


@pytest.mark.parametrize("mode", ["hybrid", "dense", "keyword"])
def test_hits_tell_where_they_are_from_with_falling_scores(corpus, put, searcher, catalogue, mode):
    put()
    hits = searcher.search("number5 colour5", ["docs"], mode=mode, top=5)
    [best, *_] = hits.hits
    assert (best.external_id, best.title, best.attributes) == ("d5", "Title 5", {"n": 5.0})
    assert best.chunk_id.startswith("ch_")
    assert best.file_id.startswith("file-")
    assert best.store_id == catalogue.store("docs").id
    scores = [hit.score for hit in hits.hits]
    assert scores == sorted(set(scores), reverse=True)
    assert hits.generations == {best.store_id: 1}


def test_a_publication_by_another_process_is_seen_by_the_next_search(corpus, folder, put, searcher):
    put()
    assert searcher.search("zebra", ["docs"], mode="keyword").hits == ()
    (folder / "new.txt").write_text("a zebra")
    put()
    assert [hit.filename for hit in searcher.search("zebra", ["docs"], mode="keyword").hits] == ["new.txt"]


def test_merged_segments_are_followed(folder, put, searcher, catalogue):
    for n in range(20):
        (folder / f"{n}.txt").write_text(f"document unique{n}")
        put()
        found = searcher.search(f"unique{n}", ["docs"], mode="keyword").hits
        assert [hit.filename for hit in found] == [f"{n}.txt"]
    assert len(catalogue.generation(catalogue.store("docs").id).segments) < 8


def test_a_cap_per_document_and_a_threshold(folder, put, searcher):
    (folder / "long.txt").write_text("\n\n".join(f"duck paragraph {n} " * 9 for n in range(9)))
    (folder / "short.txt").write_text("one duck")
    put()
    found = searcher.search("duck", ["docs"], refine=Refinement(per_file=1)).hits
    assert sorted(hit.filename for hit in found) == ["long.txt", "short.txt"]
    every = searcher.search("duck", ["docs"]).hits
    assert len(searcher.search("duck", ["docs"], refine=Refinement(threshold=every[1].score)).hits) == 2


def test_several_stores_are_searched_as_one(folder, put, searcher):
    (folder / "a.txt").write_text("ducks in store one")
    put(folder / "a.txt", store="one")
    (folder / "b.txt").write_text("ducks in store two")
    put(folder / "b.txt", store="two")
    hits = searcher.search("ducks", ["one", "two"])
    assert len({hit.store_id for hit in hits.hits}) == len(hits.generations) == 2


def test_an_unknown_store_is_refused_with_near_names(corpus, put, searcher):
    put()
    with pytest.raises(UnknownStore, match="did you mean docs"):
        searcher.search("x", ["dosc"])


def test_another_embedder_is_refused_but_keywords_need_none(corpus, put, data):
    put()
    other = Searcher(data, HashEmbedder(dimension=32))
    with pytest.raises(EmbedderMismatch, match="--embedder hash"):
        other.search("number5", ["docs"])
    assert other.search("number5", ["docs"], mode="keyword").hits[0].external_id == "d5"
    other.close()


def test_searches_of_many_threads_agree(corpus, put, searcher):
    put()
    expected = searcher.search("number7 colour0", ["docs"])
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(searcher.search("number7 colour0", ["docs"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


@pytest.mark.parametrize("query", ["", "  ", "!!!", "\x00"])
def test_questions_without_words_find_something_or_nothing_but_do_not_fail(corpus, put, searcher, query):
    put()
    assert len(searcher.search(query, ["docs"], top=3).hits) <= 3


def test_a_held_generation_outlives_the_merge_of_its_segments(folder, put, catalogue, embedder):
    snapshots = Snapshots(catalogue)
    for n in range(7):
        (folder / f"{n}.txt").write_text(f"document unique{n}")
        put()
    held = snapshots.newest(catalogue.store("docs"))
    (folder / "7.txt").write_text("the eighth segment")
    put()
    assert len(catalogue.generation(catalogue.store("docs").id).segments) == 1
    indexes = [segment.keywords for segment in held.segments.values()]
    assert len(match(indexes, "unique3", 5)[0].ids) == 1


def test_a_held_generation_learns_only_of_new_deaths_until_a_purge(corpus, catalogue, put):
    put()
    store = catalogue.store("docs")
    snapshots = Snapshots(catalogue)
    first = snapshots.newest(store)
    for name in ("d3", "d4"):
        delete_document(catalogue, store, name)
        held = snapshots.newest(catalogue.store("docs"))
        assert held.hidden.tolist() == catalogue.dead(store.id).tolist()
    told = catalogue.generation(store.id, held.number - 1, held.segments.keys())
    assert (told.since, len(told.dead)) == (held.number - 1, 1)
    purge(catalogue)
    held = snapshots.newest(catalogue.store("docs"))
    assert held.hidden.tolist() == catalogue.dead(store.id).tolist() == []
    assert catalogue.generation(store.id, first.number, first.segments.keys()).since is None
