"""nDCG by hand, and a small pack through every way of searching."""

import json

import pytest

from bench.retrieval import WAYS, fill, judgements, measure, ndcg
from indexer.hash_embedder import HashEmbedder

CORPUS = {"a": "ducks swim on the pond", "b": "cats sleep in the sun", "c": "ducks eat bread at the pond"}


class Backwards:
    """A reranker that likes what is long."""

    name = "backwards"

    def scores(self, question, passages):
        return [min(1.0, len(passage) / 100) for passage in passages]


@pytest.fixture
def pack(tmp_path):
    folder = tmp_path / "pack"
    (folder / "dev").mkdir(parents=True)
    rows = [json.dumps({"id": name, "text": text}) for name, text in CORPUS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    questions = [{"id": "1", "text": "ducks swim"}, {"id": "2", "text": "nobody judged this"}]
    (folder / "dev" / "queries.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "dev" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n1\tb\t0\n")
    return folder


def test_ndcg_is_that_of_the_formula():
    assert ndcg(["a", "b"], {"a": 1.0}) == 1.0
    assert ndcg(["b", "a"], {"a": 1.0}) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg(["c", "b", "a"], {"a": 1.0, "b": 2.0}) == pytest.approx(
        (2 / 1.585 + 1 / 2) / (2 + 1 / 1.585), abs=1e-3
    )
    assert ndcg([str(n) for n in range(10)] + ["a"], {"a": 1.0}) == 0.0
    assert ndcg([], {"a": 1.0}) == 0.0


def test_only_positive_judgements_count(pack):
    assert judgements(pack / "dev" / "qrels.tsv") == {"1": {"a": 1.0}}


def test_a_pack_is_measured_in_every_way_and_ingested_once(pack, tmp_path, capsys):
    embedder = HashEmbedder()
    for _ in range(2):
        fill(pack, "small", tmp_path / "stores", embedder)
    assert capsys.readouterr().out == ""
    scores = measure(pack, "small", tmp_path / "stores", embedder)
    assert scores == {"dense": [1.0], "keyword": [1.0], "hybrid": [1.0], "+mmr": [1.0], "+rerank": []}


def test_reranking_has_the_last_word(pack, tmp_path):
    embedder = HashEmbedder()
    fill(pack, "small", tmp_path / "stores", embedder)
    scores = measure(pack, "small", tmp_path / "stores", embedder, reranker=Backwards())
    assert scores["+rerank"][0] < scores["hybrid"][0]
    assert scores.keys() == WAYS.keys()
