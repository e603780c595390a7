"""Cross-encoders: question and passage read together. With `embedding`, what imports sentence_transformers.

The model is loaded at the first question, not before.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.errors import RerankerMissing
from indexer.seams import Reranker

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH = 16


def open_reranker(folder: Path, device: str | None = None) -> Reranker:
    """The cross-encoder in a folder, on the device as torch names it; none: the best there is.

    Raises `RerankerMissing` when there is none that can rank.
    """
    return CrossEncoderReranker(folder, device)


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder with one output, safetensors only."""

    def __init__(self, folder: Path, device: str | None = None) -> None:
        """Raises `RerankerMissing` when the folder holds no such model."""
        try:
            config = json.loads((folder / "config.json").read_bytes())
        except (OSError, ValueError) as error:
            raise RerankerMissing(
                f"{folder} holds no cross-encoder: it has no readable config.json"
            ) from error
        outputs = config.get("num_labels", len(config.get("id2label", {"0": "one"})))
        if outputs != 1:
            raise RerankerMissing(f"the model in {folder} has {outputs} outputs; a reranker has one")
        if not list(folder.glob("*.safetensors")):
            raise RerankerMissing(f"{folder} holds no weights as safetensors; save the model again as such")
        self._folder, self._device = folder, device
        self.name = folder.name
        self._loading = threading.Lock()
        self._reading = threading.Lock()  # the fast tokenizer keeps its padding in itself
        self._model: CrossEncoder | None = None

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """The logistic of the model's output for each passage: trained as a probability of relevance."""
        if not passages:
            return []
        model = self._loaded()
        pairs = [(question, passage) for passage in passages]
        with self._reading:
            raw = model.predict(pairs, batch_size=_BATCH, show_progress_bar=False, activation_fn=_as_it_is)
        limited = np.clip(np.asarray(raw, dtype=np.float64).reshape(len(passages)), -40.0, 40.0)
        return [float(value) for value in 1.0 / (1.0 + np.exp(-limited))]

    def _loaded(self) -> "CrossEncoder":
        with self._loading:
            if self._model is None:
                from huggingface_hub.utils.tqdm import disable_progress_bars

                disable_progress_bars()
                from sentence_transformers import CrossEncoder

                self._model = CrossEncoder(
                    str(self._folder),
                    device=self._device,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True},
                )
            return self._model


def _as_it_is(logits: Any) -> Any:
    return logits
