"""A cross-encoder from real files: small, and of random weights, so what is tested is that it is obeyed."""

import json
import shutil
import threading

import pytest

from indexer.errors import RerankerMissing
from indexer.reranking import open_reranker
from indexer.search import Refinement, Searcher

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "ducks",
    "swim",
    "on",
    "the",
    "pond",
    "tin",
    "is",
    "a",
    "metal",
    "and",
    "quack",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A BERT of one layer with one output, as transformers saves it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    made = tmp_path_factory.mktemp("models") / "tiny-reranker"
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(made)
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(made, safe_serialization=True)
    return made


def test_it_scores_as_the_model_does_alone(model):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    passages = ["ducks swim on the pond", "tin is a metal", "", "ducks " * 200]
    alone = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = []
    with torch.inference_mode():
        for passage in passages:
            pair = tokenizer("ducks", passage, truncation=True, max_length=64, return_tensors="pt")
            expected.append(float(torch.sigmoid(alone(**pair).logits[0, 0])))
    reranker = open_reranker(model)
    assert reranker.scores("ducks", passages) == pytest.approx(expected, abs=1e-5)
    assert reranker.scores("ducks", []) == []
    assert reranker.name == "tiny-reranker"


def test_threads_agree(model):
    reranker = open_reranker(model)
    passages = [" ".join(WORDS[5 : 5 + n]) for n in range(1, 12)]
    expected = reranker.scores("ducks quack", passages)
    found: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(reranker.scores("ducks quack", passages)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [pytest.approx(expected, abs=1e-6)] * 4


def test_a_search_follows_it(model, folder, put, data, embedder):
    texts = ["ducks swim", "tin is a metal", "the pond", "ducks quack and quack", "a metal pond"]
    rows = [json.dumps({"title": "on the", "text": text}) + "\n" for text in texts]
    (folder / "rows.jsonl").write_text("".join(rows))
    put()
    reranker = open_reranker(model)
    searcher = Searcher(data, embedder, reranker)
    found = searcher.search("ducks", ["docs"], mode="dense", refine=Refinement(rerank=True)).hits
    searcher.close()
    scores = reranker.scores("ducks", [f"on the\n{text}" for text in texts])
    judged = dict(zip(texts, scores, strict=True))
    assert [hit.text for hit in found] == sorted(texts, key=lambda text: -judged[text])
    assert [hit.score for hit in found] == pytest.approx(sorted(judged.values(), reverse=True), abs=1e-5)


def test_what_is_no_reranker_is_refused_by_name(model, tmp_path):
    with pytest.raises(RerankerMissing, match=r"no readable config\.json"):
        open_reranker(tmp_path / "nowhere")
    several, unsafe = tmp_path / "several", tmp_path / "unsafe"
    for copy in (several, unsafe):
        shutil.copytree(model, copy)
    config = json.loads((several / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    config.pop("num_labels", None)
    (several / "config.json").write_text(json.dumps(config))
    with pytest.raises(RerankerMissing, match="2 outputs"):
        open_reranker(several)
    (unsafe / "model.safetensors").unlink()
    (unsafe / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(RerankerMissing, match="safetensors"):
        open_reranker(unsafe)
