"""Embedding on the CPU with eight-bit weights and activations: the only file that imports onnxruntime.

The model is exported and quantised once, into the cache, from its own folder: nothing is downloaded.
Its vectors are near the model's own and not equal to them, so it has a digest of its own and a store
keeps to one of the two.
"""

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.batches import Replica, padded
from indexer.embedding import SentenceEmbedder
from indexer.errors import EmbedderMissing
from indexer.seams import Vectors
from indexer.sentence_models import is_plain, load_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RECIPE = "int8-2"  # weights per channel, activations per batch; embeddings and narrowing products stay float
GRAPH = "model.onnx"
MANIFEST = "manifest.json"
_OPSET = 17
_TOKENS_PER_THREAD = 1024  # of a batch


class Int8Embedder(SentenceEmbedder):
    """The model of a folder, quantised."""

    def __init__(self, folder: Path, name: str, replicas: int, cache: Path) -> None:
        """`cache` keeps quantised models. Raises `EmbedderMissing`, also when the extra is not installed."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise EmbedderMissing(
                f"'{name}' needs ONNX Runtime: pip install 'fewshot[onnx]', or leave ':int8' out"
            ) from error
        super().__init__(folder, name, ("cpu",) * replicas)
        self._cache = cache

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the recipe and the digest of the model it starts from."""
        return hashlib.sha256(f"{RECIPE} {self._origin}".encode()).hexdigest()

    @property
    def _origin(self) -> str:
        return str(SentenceEmbedder.digest.func(self))  # type: ignore[attr-defined]

    def _open(self) -> tuple[Replica, ...]:
        place = self._cache / self.digest[:32]
        if not (place / MANIFEST).exists():
            self._quantise(place)
        graph = (place / GRAPH).read_bytes()
        if hashlib.sha256(graph).hexdigest() != json.loads((place / MANIFEST).read_bytes())["sha256"]:
            raise EmbedderMissing(f"{place / GRAPH} was altered: remove {place}, it is made again")
        cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        threads = max(1, cores // len(self._devices))
        return tuple(_OnnxReplica(graph, threads, self._padding) for _ in self._devices)

    @property
    def _padding(self) -> int:
        config = json.loads((self._folder / "config.json").read_bytes())
        return int(config.get("pad_token_id") or 0)

    def _quantise(self, place: Path) -> None:
        """Write the folder whole, its manifest last, so that a killed run or a second one does no harm."""
        temporary = place.with_name(f".tmp-{uuid.uuid4().hex}")
        temporary.mkdir(parents=True)
        try:
            _export(self._folder, self._cutting, temporary / "exported.onnx", self.name)
            _to_int8(temporary / "exported.onnx", temporary / GRAPH)
            (temporary / "exported.onnx").unlink()
            graph = hashlib.sha256((temporary / GRAPH).read_bytes()).hexdigest()
            about = {"recipe": RECIPE, "model": self.name, "digest": self.digest, "sha256": graph}
            (temporary / MANIFEST).write_text(json.dumps(about, indent=1))
            try:
                temporary.rename(place)
            except OSError:
                if not (place / MANIFEST).exists():  # else another process was quicker
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class _OnnxReplica:
    """One session; its threads are its own."""

    device = "cpu"

    def __init__(self, graph: bytes, threads: int, padding: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores
        self._session: InferenceSession = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._padding = padding
        self.batch_tokens = _TOKENS_PER_THREAD * threads

    def embed(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Vectors:
        ids, mask = padded(tokens, self._padding)
        rows = self._session.run(["rows"], {"input_ids": ids, "attention_mask": mask})[0]
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    def query(self, text: str, tokens: Sequence[int]) -> Vectors:
        return np.asarray(self.embed([text], [tokens])[0])


def _export(folder: Path, tokenizer: object, path: Path, name: str) -> None:
    """All modules of the model, token ids in, rows out, as one graph."""
    import torch
    from tokenizers import Tokenizer

    assert isinstance(tokenizer, Tokenizer)
    model = load_model(folder, "cpu", "eager")  # the plain products quantise better than a fused one
    if not is_plain(model, tokenizer):
        raise EmbedderMissing(f"'{name}' prepares texts in a way that int8 does not know: leave ':int8' out")

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.model({"input_ids": input_ids, "attention_mask": attention_mask})[
                "sentence_embedding"
            ]
            return rows

    ids = torch.ones((2, 8), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    free = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about shapes that are free or fixed as meant
        torch.onnx.export(
            Rows(),
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["rows"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "rows": {0: "texts"}},
            opset_version=_OPSET,
            dynamo=False,  # the newer exporter needs a package of its own and fuses nothing more here
        )


def _to_int8(path: Path, target: Path) -> None:
    """Quantise the products with weights, but for those that narrow: see docs/decisions/0134."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(path)).graph
    narrowing = {
        weight.name for weight in graph.initializer if len(weight.dims) == 2 and _narrows(weight.dims)
    }
    kept = [node.name for node in graph.node if node.op_type == "MatMul" and narrowing & set(node.input)]
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a step that was tried and gains nothing
    try:
        quantize_dynamic(
            str(path),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=kept,
        )
    finally:
        logger.setLevel(level)


def _narrows(shape: Sequence[int]) -> bool:
    """More values in than out: a block's second product, whose inputs spread too far for one scale."""
    return shape[0] > shape[1]
