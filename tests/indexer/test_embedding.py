"""Embedders: the one without a model, and, slowly, the default one."""

import hashlib
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.embedding import SentenceEmbedder, open_embedder
from indexer.errors import EmbedderMissing
from indexer.hash_embedder import HashEmbedder

MODEL = Path("~/.cache/fewshot/models/all-minilm-l6-v2").expanduser()
with_model = pytest.mark.skipif(not MODEL.exists(), reason="run `fewshot models fetch` first")


@pytest.fixture(scope="module")
def model() -> SentenceEmbedder:
    return SentenceEmbedder(MODEL)


def test_the_same_text_has_the_same_unit_vector_and_shared_words_are_near():
    embedder = HashEmbedder()
    rows = embedder.passages(["ducks swim on ponds", "ducks swim", "the price of tin", "鸭子游泳", "鸭子"])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.array_equal(rows[0], embedder.query("ducks swim on ponds"))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3
    assert rows[3] @ rows[4] > 0.4


@given(st.lists(st.sampled_from(["cat", "dog", "a", "b", "c", "d", "e", "f"]), max_size=40))
def test_a_hashed_vector_is_summed_as_32_bits_sum_it(said):
    embedder = HashEmbedder(dimension=3)  # where words share a coordinate
    row = np.zeros(3, dtype=np.float32)
    for word, times in Counter(said).items():
        digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        row[digest % 3] += (1.0 if digest >> 63 else -1.0) * (1.0 + np.log(times))
    if not row.any():
        row[0] = 1.0
    assert embedder.query(" ".join(said)).tobytes() == (row / np.linalg.norm(row[None], axis=1)).tobytes()


def test_the_name_hash_needs_no_model(tmp_path):
    assert open_embedder("hash", tmp_path).digest == HashEmbedder().digest


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", " "])
def test_a_missing_model_says_how_to_get_it(name, tmp_path):
    with pytest.raises(EmbedderMissing, match="fewshot models fetch"):
        open_embedder(name, tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(EmbedderMissing, match=r"tokenizer\.json"):
        open_embedder(str(tmp_path), tmp_path)


@with_model
def test_facts_about_the_default_model_need_no_torch(model):
    assert (model.name, model.dimension, model.max_tokens) == ("all-minilm-l6-v2", 384, 254)
    assert model.count(["two words", ""]) == [2, 0]
    assert len(model.digest) == 64
    assert model._replicas == ()


@with_model
def test_the_default_model_grasps_english_and_neither_russian_nor_chinese(model):
    assert model.grasp("How many points did the Panthers defense give up?") > 0.95
    assert model.grasp("Сколько очков пропустила защита?") < 0.2
    assert model.grasp("黑豹队的防守丢了多少分？") < 0.5
    assert model.grasp("1234") == 1.0


@pytest.mark.slow
@with_model
def test_rows_come_in_the_order_of_the_texts_and_threads_may_ask(model):
    texts = [f"text {n} " * (n % 9 + 1) for n in range(70)]
    rows = model.passages(texts)
    assert rows.shape == (70, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    found = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: model.query(texts[at])})) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, row in found.items():
        assert row @ rows[at] > 0.999


@pytest.mark.slow
@with_model
def test_rows_are_those_of_the_library_itself(model):
    from sentence_transformers import SentenceTransformer

    texts = ["", "short", "a longer text about ducks " * 9, "longer than the window " * 120]
    library = SentenceTransformer(str(MODEL), local_files_only=True)
    expected = library.encode_document(texts, normalize_embeddings=True)
    assert np.abs(model.passages(texts) - expected).max() < 1e-5
    assert (
        np.abs(model.query(texts[2]) - library.encode_query([texts[2]], normalize_embeddings=True)).max()
        < 1e-5
    )


@pytest.mark.slow
@with_model
def test_two_replicas_embed_what_one_does(model):
    both = SentenceEmbedder(MODEL, devices=("cpu", "cpu"))
    texts = [f"text {n} " * (n % 60 + 1) for n in range(300)]
    rows = both.passages(texts)
    assert len(both._replicas) == 2
    assert both._free.qsize() == 2  # each was given back
    assert both.digest == model.digest
    assert np.abs(rows - model.passages(texts)).max() < 1e-5
