"""What training writes is what the server reads; neither imports the other, so this holds them together."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from server.adapters.base_model import base_digest, read_base

backbone = pytest.importorskip("training.backbone")


def test_both_sides_know_a_base_model_by_the_same_digest(tmp_path):
    save_file({"model.embed_tokens.weight": np.ones((4, 8), np.float32)}, tmp_path / "model.safetensors")
    config = {"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "origin.json").write_text("not part of it")
    first = base_digest(tmp_path)
    assert first == backbone.base_digest(tmp_path) == read_base(tmp_path).digest
    (tmp_path / "tokenizer.json").write_text('{"changed": 1}')
    assert base_digest(tmp_path) == backbone.base_digest(tmp_path) != first
