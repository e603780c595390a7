"""The arms of the hybrid goal do the same work on a small store."""

import asyncio
import json

from bench.goals.hybrid import Asking, Corpus, _Asked
from bench.retrieval import fill
from indexer.hash_embedder import HashEmbedder
from indexer.search import Searcher


def test_the_keyword_leg_and_bare_tantivy_find_the_same_and_every_arm_takes_time(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    texts = ["ducks swim on the pond", "cats sleep in the sun", "ducks eat bread at the pond"]
    rows = [json.dumps({"id": str(at), "text": text}) for at, text in enumerate(texts)]
    (pack / "corpus.jsonl").write_text("\n".join(rows))
    embedder = HashEmbedder()
    fill(pack, "small", tmp_path / "data", embedder)
    corpus = Corpus("small", tmp_path / "data", "small", ["ducks at the pond", "sleeping cats"])
    searcher = Searcher(corpus.data, Asking(None, embedder))
    asked = _Asked(corpus, searcher, embedder)
    assert asked.check().passed
    assert len(asked._leg("ducks")) == 2
    for sample in asked.arms().values():
        assert asyncio.run(sample()) > 0
    searcher.close()
