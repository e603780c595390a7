"""The encoder's arithmetic without its modules: the same vectors, or not used."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from indexer.lean_bert import LeanBert, lean
from indexer.recorded_bert import recorded

TEXTS = ([2, 7, 9, 3], [2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 3], [2, 3])


def encoder(**changes: object) -> BertModel:
    torch.manual_seed(7)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    config = BertConfig(vocab_size=50, max_position_embeddings=32, **{**sizes, **changes})
    model = BertModel(config, add_pooling_layer=False).eval()
    for name, weights in model.named_parameters():  # a fresh norm changes nothing: give each something to do
        if name.endswith("bias") or "LayerNorm" in name:
            torch.nn.init.normal_(weights, std=0.3)
    return model


def vectors(model: BertModel, first: bool) -> np.ndarray:
    with torch.inference_mode():
        states = [model(input_ids=torch.tensor([tokens])).last_hidden_state[0] for tokens in TEXTS]
    pooled = [rows[0] if first else rows.mean(dim=0) for rows in states]
    return torch.nn.functional.normalize(torch.stack(pooled), dim=1).numpy()


@pytest.mark.parametrize("first", [False, True])
def test_it_gives_the_vectors_of_the_modules(first):
    model = encoder()
    expected = vectors(model, first)
    found = lean([SimpleNamespace(auto_model=model)], TEXTS[:2], expected[:2])
    assert isinstance(found, LeanBert)
    assert np.allclose(found.vector(TEXTS[2]), expected[2], atol=1e-6)
    beside = [2, 0, 1, 0, 0, 1]  # of one length and of several, in any order
    assert np.allclose(found.vectors([TEXTS[at] for at in beside]), expected[beside], atol=1e-6)


def test_a_model_that_computes_otherwise_keeps_its_modules():
    model = encoder(hidden_act="relu")
    assert lean([SimpleNamespace(auto_model=model)], TEXTS, vectors(model, first=False)) is None


def test_a_model_that_is_built_otherwise_keeps_its_modules():
    model = encoder()
    expected = vectors(model, first=False)
    del model.encoder.layer[0].attention.output
    assert lean([SimpleNamespace(auto_model=model)], TEXTS, expected) is None
    assert lean([torch.nn.Identity()], TEXTS, expected) is None


def test_on_a_processor_nothing_is_replayed():
    assert recorded(LeanBert(encoder(), pools_first=False)) is None
