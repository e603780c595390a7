"""Filters, caps, weights, diversity, parents, several models: what a search may be told besides."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.diversity import spread
from indexer.embedders import Embedders
from indexer.errors import EmbedderMismatch, FilterInvalid, RerankerMissing
from indexer.filters import Comparison, Compound, read_filter
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.reading.reader import read
from indexer.records import Chunk
from indexer.search import Refinement, Searcher
from indexer.snapshots import Snapshots, background
from indexer.splitting import Splitting
from tests.indexer.conftest import Watching
from tests.indexer.oracles import NaiveKeywords, NumpyVectors

WORDS = [f"word{n}" for n in range(60)]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of 1,000 rows with a number `n` each; every fourth died in a second publication."""
    folder = tmp_path_factory.mktemp("large")
    chance = np.random.default_rng(3)
    rows = [
        {"id": f"d{n}", "text": " ".join(chance.choice(WORDS, size=12)), "n": n, "even": n % 2 == 0}
        for n in range(1000)
    ]
    embedder = HashEmbedder(dimension=48)
    searcher = Searcher(folder / "data", embedder)
    for some in (rows, [row for row in rows if row["n"] % 4]):
        write_rows(folder / "rows.jsonl", some)
        ingest(searcher._catalogue, "docs", [folder / "rows.jsonl"], embedder, _read, Splitting(), Watching())
    yield searcher, {row["id"]: row for row in rows if row["n"] % 4}, embedder
    searcher.close()


def _read(data, name, first_line=1):
    return read(data, name, first_line)


@settings(max_examples=60, deadline=None)
@given(
    share=st.sampled_from([0.001, 0.01, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
    top=st.sampled_from([1, 10, 50]),
)
def test_a_filtered_search_is_brute_force_over_what_passes(large, share, seed, question, top):
    searcher, rows, embedder = large
    chance = np.random.default_rng(seed)
    low = int(chance.integers(0, 1000 - int(1000 * share) + 1))
    wanted = Compound(
        "and", (Comparison("gte", "n", (float(low),)), Comparison("lt", "n", (float(low + 1000 * share),)))
    )
    if chance.random() < 0.5:
        numbers = chance.choice(1000, size=max(1, int(1000 * share)), replace=False)
        wanted = Comparison("in", "n", tuple(numbers.astype(float).tolist()))
        passing = {key: row for key, row in rows.items() if row["n"] in set(numbers.tolist())}
    else:
        passing = {key: row for key, row in rows.items() if low <= row["n"] < low + 1000 * share}
    numbered = dict(enumerate(passing.values()))
    vectors, texts = NumpyVectors(), NaiveKeywords()
    ids = np.array(list(numbered), dtype=np.int64)
    vectors.add(ids, embedder.passages([row["text"] for row in numbered.values()]) if numbered else [])
    texts.add(ids, [row["text"] for row in numbered.values()])
    refine = Refinement(filter=wanted)

    near = vectors.nearest(embedder.query(question), top)
    found = searcher.search(question, ["docs"], mode="dense", top=top, refine=refine).hits
    assert len(found) == len(near.ids)
    vector = embedder.query(question)
    cosines = [float(embedder.passages([hit.text])[0] @ vector) for hit in found]
    assert cosines == pytest.approx(list(near.scores), abs=1e-5)

    found = searcher.search(question, ["docs"], mode="keyword", top=top, refine=refine).hits
    matching = {numbered[row]["id"] for row in texts.match(question, 1000).ids}
    assert len(found) == min(top, len(matching))
    assert {hit.external_id for hit in found} <= matching

    found = searcher.search(question, ["docs"], top=top, refine=refine).hits
    assert len(found) == min(top, len(passing))
    assert all(hit.external_id in passing for hit in found)


def test_an_attribute_of_another_kind_is_refused_and_one_that_nobody_has_finds_nothing(large):
    searcher, rows, _ = large
    for typed in ("n = seven", "even > 1"):
        with pytest.raises(FilterInvalid, match=r"filter\.value compares"):
            searcher.search("word1", ["docs"], refine=Refinement(filter=read_filter(typed)))
    nobody = Refinement(filter=read_filter("colour = red"))
    assert searcher.search("word1", ["docs"], refine=nobody).hits == ()
    others = Refinement(filter=read_filter("colour != red"))
    assert len(searcher.search("word1", ["docs"], top=1000, mode="dense", refine=others).hits) == len(rows)


def test_a_publication_is_filtered_by_the_next_search(folder, put, searcher):
    for n in range(3):
        write_rows(folder / f"{n}.jsonl", [{"id": f"d{n}", "text": "a duck", "n": n}])
        put()
        found = searcher.search("duck", ["docs"], refine=Refinement(filter=Comparison("gte", "n", (n,)))).hits
        assert [hit.external_id for hit in found] == [f"d{n}"]


def test_queries_together_find_what_they_find_alone(large):
    searcher, _, _ = large
    queries = ["word1 word2", "", "word3", "nothing of it", "word1 word2"]
    refine = Refinement(filter=read_filter("n < 500"), per_file=1)
    together = searcher.search_many(queries, ["docs"], refine=refine)
    assert together == [searcher.search(query, ["docs"], refine=refine) for query in queries]
    assert together[1].hits == ()


def test_a_weight_of_nothing_leaves_the_other_leg_alone(large):
    searcher, _, _ = large
    for weights, mode in (((1.0, 0.0), "dense"), ((0.0, 2.0), "keyword")):
        leaning = searcher.search("word1 word2", ["docs"], refine=Refinement(weights=weights))
        assert leaning == searcher.search("word1 word2", ["docs"], mode=mode)


unit_rows = st.integers(1, 12).flatmap(
    lambda many: st.lists(
        st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda row: np.linalg.norm(row) > 0.1),
        min_size=many,
        max_size=many,
    )
)


@given(rows=unit_rows, keep=st.floats(0, 1), top=st.integers(1, 12), data=st.data())
def test_each_next_one_has_the_greatest_marginal_relevance(rows, keep, top, data):
    vectors = np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    gains = data.draw(st.lists(st.floats(0, 1), min_size=len(rows), max_size=len(rows)))
    order = spread(gains, vectors, keep, top)
    assert len(order) == len(set(order)) == min(top, len(rows))
    for step, chosen in enumerate(order):
        before = order[:step]

        def marginal(at, before=before):
            return keep * gains[at] - (1 - keep) * max(
                (vectors[at] @ vectors[b] for b in before), default=0.0
            )

        others = [at for at in range(len(rows)) if at not in before]
        assert marginal(chosen) >= max(map(marginal, others)) - 1e-9


def test_diversity_brings_another_document_forward_and_none_changes_nothing(folder, put, searcher):
    for n in range(4):
        (folder / f"same{n}.txt").write_text("ducks swim on the pond in the park")
    (folder / "other.txt").write_text("ducks quack")
    put(folder)
    plain = searcher.search("ducks swim pond", ["docs"], top=5).hits
    assert plain[-1].filename == "other.txt"
    spread_out = searcher.search("ducks swim pond", ["docs"], top=5, refine=Refinement(diversity=0.7)).hits
    assert spread_out[1].filename == "other.txt"
    assert all(after.score < before.score for before, after in pairwise(spread_out))
    assert searcher.search("ducks swim pond", ["docs"], top=5, refine=Refinement(diversity=0.0)).hits == plain


def test_children_of_one_parent_are_one_hit_that_reads_as_the_parent(catalogue, folder, embedder, searcher):
    text = "Chapter one. Ducks swim. Ducks quack. Chapter two. Tin is a metal."
    (folder / "a.txt").write_text(text)
    parents = [(0, 37), (38, len(text))]

    def children(document, _):
        starts = [0, 13, 25, 38, 51, len(document.text) + 1]
        return tuple(
            Chunk(document.text[a : b - 1], a, b - 1, None, None, parent=parents[a >= 38])
            for a, b in pairwise(starts)
        )

    ingest(catalogue, "docs", [folder], embedder, _read, children, Watching())
    [hit] = searcher.search("ducks", ["docs"], mode="keyword").hits
    assert (hit.text, hit.char_start, hit.char_end) == (text[:37], 0, 37)
    assert len(searcher.search("ducks tin", ["docs"], mode="dense").hits) == 2


@pytest.fixture(scope="module")
def repeating(tmp_path_factory):
    """90 rows whose words are chunks of their own, most of them equal, and are read as their row."""

    def words_of(document, _):
        text, chunks, at = document.text, [], 0
        for word in text.split(" "):
            chunks.append(Chunk(word, at, at + len(word), None, None, parent=(0, len(text))))
            at += len(word) + 1
        return tuple(chunks)

    folder, chance = tmp_path_factory.mktemp("repeating"), np.random.default_rng(5)
    texts = [" ".join(chance.choice(WORDS[:6], size=1 + n % 40)) for n in range(90)]
    write_rows(folder / "rows.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    embedder = HashEmbedder(dimension=48)
    searcher = Searcher(folder / "data", embedder)
    ingest(searcher._catalogue, "docs", [folder / "rows.jsonl"], embedder, _read, words_of, Watching())
    yield searcher
    searcher.close()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(WORDS[:8]), min_size=1, max_size=4).map(" ".join), st.integers(1, 60))
def test_few_candidates_give_the_hits_that_many_give(repeating, question, top):
    deep = Refinement(per_file=10**9)  # caps nothing, and is looked for among all candidates
    found = repeating.search(question, ["docs"], top=top, mode="dense")
    assert found == repeating.search(question, ["docs"], top=top, mode="dense", refine=deep)
    assert found.hits


def test_a_parent_tells_the_pages_it_spans(catalogue, folder, embedder, searcher):
    from indexer.records import Document, Reading, Section

    def pages(data, name, first_line=1):
        sections = tuple(Section(f"page {n} has ducks. ", n) for n in (1, 2, 3))
        return Reading((Document("t", sections, "pdf"),))

    def split(document, _):
        return (Chunk(document.text[0:6], 0, 6, 1, 1, parent=(0, 30)),)

    (folder / "a.pdf").write_bytes(b"%PDF-1.4")
    ingest(catalogue, "docs", [folder], embedder, pages, split, Watching())
    [hit] = searcher.search("page", ["docs"], mode="keyword").hits
    assert (hit.page_start, hit.page_end, hit.char_end) == (1, 2, 30)


def test_stores_of_two_models_are_searched_together_each_in_its_own(catalogue, folder, data):
    one, two = HashEmbedder(dimension=32), HashEmbedder(dimension=64)
    for name, embedder in (("one", one), ("two", two)):
        (folder / f"{name}.txt").write_text(f"ducks in store {name}")
        ingest(catalogue, name, [folder / f"{name}.txt"], embedder, _read, Splitting(), Watching())
    both = Searcher(data, Embedders(None, one, two))
    found = both.search("ducks", ["one", "two"]).hits
    assert sorted(hit.filename for hit in found) == ["one.txt", "two.txt"]
    assert found == both.search("ducks", ["two", "one"]).hits
    spread_out = both.search("ducks", ["one", "two"], refine=Refinement(diversity=0.5)).hits
    assert {hit.filename for hit in spread_out} == {"one.txt", "two.txt"}
    both.close()
    alone = Searcher(data, Embedders(None, one))
    with pytest.raises(EmbedderMismatch, match="store 'two'"):
        alone.search("ducks", ["one", "two"])
    alone.close()


def test_a_model_that_is_nowhere_is_missing_and_one_that_changed_is_refused(
    catalogue, folder, data, tmp_path
):
    from indexer.errors import EmbedderMissing

    class Renamed(HashEmbedder):
        def __init__(self, name):
            super().__init__(dimension=32)
            self.name = name

    (folder / "a.txt").write_text("ducks")
    for name in ("hash", "gone"):
        ingest(catalogue, name, [folder], Renamed(name), _read, Splitting(), Watching())
    searcher = Searcher(data, Embedders(tmp_path))
    with pytest.raises(EmbedderMissing, match=r"store 'gone' was built with gone .*--embedder"):
        searcher.search("ducks", ["gone"])
    with pytest.raises(EmbedderMismatch, match="store 'hash'"):  # `hash` has 256 dimensions now
        searcher.search("ducks", ["hash"])
    searcher.close()


def test_a_question_asked_twice_is_embedded_once():
    class Counting(HashEmbedder):
        asked = 0

        def query(self, text):
            self.asked += 1
            return super().query(text)

    embedder = Counting()
    embedders = Embedders(None, embedder)
    for _ in range(2):
        for n in range(10):
            assert np.array_equal(embedders.query(embedder, f"q{n}"), HashEmbedder().query(f"q{n}"))
    assert embedder.asked == 10


class Backwards:
    """A reranker that likes what the search liked least; shows what it was given."""

    name = "backwards"

    def __init__(self):
        self.given = []

    def scores(self, question, passages):
        self.given.append(list(passages))
        return [at / len(passages) for at in range(len(passages))]


def test_the_reranker_has_the_last_word_on_the_best_fifty(large, data):
    searcher, _, _ = large
    judge = Backwards()
    again = Searcher(searcher._catalogue.data, HashEmbedder(dimension=48), judge)
    plain = again.search("word1 word2", ["docs"], top=60).hits
    turned = again.search("word1 word2", ["docs"], top=60, refine=Refinement(rerank=True)).hits
    again.close()
    assert [hit.chunk_id for hit in turned[:50]] == [hit.chunk_id for hit in plain[49::-1]]
    assert [hit.chunk_id for hit in turned[50:]] == [hit.chunk_id for hit in plain[50:]]
    assert len(judge.given[0]) == 50
    assert turned[0].score == pytest.approx(49 / 50)
    assert all(after.score < before.score for before, after in pairwise(turned))


def test_without_a_reranker_reranking_is_refused(large):
    with pytest.raises(RerankerMissing, match="--reranker"):
        large[0].search("word1", ["docs"], refine=Refinement(rerank=True))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_the_background_of_several_segments_is_that_of_all_rows(large, words):
    searcher, _, embedder = large
    snapshot = Snapshots(searcher._catalogue).newest(searcher._catalogue.store("docs"))
    rows = np.concatenate([segment.vectors.rows() for segment in snapshot.segments.values()])
    cosines = rows @ embedder.query(" ".join(words))
    found = background([snapshot], embedder.query(" ".join(words)))
    assert found.chunks == len(rows)
    assert found.mean == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert found.deviation == pytest.approx(float(cosines.std()), abs=1e-4)
