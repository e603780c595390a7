"""A decoder's first layers as an embedder's folder: the right tensors, whole, and refusals in words."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from prompts.cli import prompts
from prompts.errors import PoolError
from prompts.shallow import write_embedder

TENSORS = {
    "model.embed_tokens.weight": np.arange(12, dtype=np.float32).reshape(6, 2),
    "model.layers.0.mlp.weight": np.full((2, 2), 1.5, dtype=np.float32),
    "model.layers.1.mlp.weight": np.full((2, 2), 2.5, dtype=np.float16),
    "model.layers.10.mlp.weight": np.full((2, 2), 10.5, dtype=np.float32),
    "model.norm.weight": np.ones(2, dtype=np.float32),
    "lm_head.weight": np.zeros((6, 2), dtype=np.float32),
}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "decoder"
    folder.mkdir()
    save_file(TENSORS, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 11, "hidden_size": 2}))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    return folder


def test_the_first_layers_are_kept_as_they_are(model, tmp_path):
    write_embedder(model, tmp_path / "out", layers=2)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert sorted(written) == [
        "model.embed_tokens.weight",
        "model.layers.0.mlp.weight",
        "model.layers.1.mlp.weight",
        "model.norm.weight",
    ]
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensor, TENSORS[name])
        assert tensor.dtype == TENSORS[name].dtype
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {"num_hidden_layers": 2, "hidden_size": 2}


def test_texts_are_not_read_as_turns(model, tmp_path):
    write_embedder(model, tmp_path / "out", layers=1)
    assert not (tmp_path / "out" / "chat_template.jinja").exists()
    reading = json.loads((tmp_path / "out" / "sentence_bert_config.json").read_text())
    assert list(reading["modality_config"]) == ["text"]


@pytest.mark.parametrize("layers", [0, 12])
def test_layers_that_are_not_there_are_refused(model, tmp_path, layers):
    with pytest.raises(PoolError, match="choose from 1 to 11"):
        write_embedder(model, tmp_path / "out", layers)
    assert not (tmp_path / "out").exists()


def test_a_cut_file_is_named(model, tmp_path):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-30])
    with pytest.raises(PoolError, match="ends before its last tensor"):
        write_embedder(model, tmp_path / "out", layers=11)
    assert not (tmp_path / "out" / "modules.json").exists()


def test_the_command_says_how_to_name_the_folder(model, tmp_path):
    shown = CliRunner().invoke(prompts, ["embedder", str(model), str(tmp_path / "out"), "--layers", "1"])
    assert shown.output == f"{tmp_path / 'out'}: name it in demos.embedder, with demos.poolings = 2\n"
    (model / "model.safetensors").unlink()
    shown = CliRunner().invoke(prompts, ["embedder", str(model), str(tmp_path / "out"), "--layers", "1"])
    assert shown.exit_code == 1
    assert "holds no model.safetensors" in shown.output
