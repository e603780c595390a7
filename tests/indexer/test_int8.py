"""The quantised model: near the one it comes from, made once, and never taken for it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.errors import EmbedderMismatch, EmbedderMissing

pytest.importorskip("onnxruntime", reason="pip install 'fewshot[onnx]'")

CACHE = Path("~/.cache/fewshot/models").expanduser()
NAME = "all-minilm-l6-v2"
with_model = pytest.mark.skipif(not (CACHE / NAME).exists(), reason="run `fewshot models fetch` first")
TEXTS = [f"Ducks number {n} swim on ponds. " * (n % 7 + 1) for n in range(20)]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder of models of its own, so that nothing quantised earlier is found."""
    folder = tmp_path_factory.mktemp("models")
    (folder / NAME).symlink_to(CACHE / NAME)
    return folder


@pytest.mark.slow
@with_model
def test_vectors_are_near_the_model_s_own_and_do_not_depend_on_the_batch(models):
    exact, quantised = open_embedder(NAME, models), open_embedder(f"{NAME}:int8", models)
    rows = quantised.passages(TEXTS)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert (rows * exact.passages(TEXTS)).sum(axis=1).min() > 0.97
    assert (rows[3] * quantised.query(TEXTS[3])).sum() > 0.97


@pytest.mark.slow
@with_model
def test_it_is_quantised_once_and_an_altered_file_is_refused(models):
    first = open_embedder(f"{NAME}:int8", models)
    first.query("made now, if it was not")
    [graph] = (models / "int8").glob("*/model.onnx")
    made = graph.stat().st_mtime_ns
    open_embedder(f"{NAME}:int8", models).query("again")
    assert graph.stat().st_mtime_ns == made
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(EmbedderMissing, match="was altered: remove"):
        open_embedder(f"{NAME}:int8", models).query("again")
    shutil.rmtree(graph.parent)


@with_model
def test_a_store_of_the_one_refuses_the_other(models, tmp_path):
    exact, quantised = open_embedder(NAME, models), open_embedder(f"{NAME}:int8", models)
    assert (quantised.name, quantised.dimension) == (f"{NAME}:int8", exact.dimension)
    catalogue = Catalogue(tmp_path)
    catalogue.claim("docs", quantised)
    with pytest.raises(EmbedderMismatch, match=f"--embedder {NAME}:int8"):
        catalogue.claim("docs", exact)
    catalogue.close()


@with_model
def test_without_the_extra_it_says_what_to_install(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmbedderMissing, match=r"pip install 'fewshot\[onnx\]'"):
        open_embedder(f"{NAME}:int8", models)


@pytest.mark.slow
@with_model
def test_a_model_that_puts_an_instruction_in_front_is_refused(tmp_path):
    folder = tmp_path / "instructed"
    shutil.copytree(CACHE / NAME, folder)
    config = json.loads((folder / "config_sentence_transformers.json").read_bytes())
    config["prompts"] = {"query": "query: ", "document": "passage: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    with pytest.raises(EmbedderMissing, match="leave ':int8' out"):
        open_embedder("instructed:int8", tmp_path).query("x")
    exact = open_embedder("instructed", tmp_path)
    assert exact.passages(["ducks"])[0] @ exact.query("ducks") < 0.999  # both got their instruction
