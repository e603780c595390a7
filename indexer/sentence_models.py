"""A sentence-transformers model on one device: the only file but `reranking` that imports the library."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from indexer.batches import padded
from indexer.lean_bert import SAMPLES, LeanBert, lean
from indexer.recorded_bert import RecordedBert, recorded
from indexer.seams import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CPU_TOKENS = 1024  # of a batch per thread: what is between two layers stays in the cache
MOST_THREADS = 16
QUESTION_PRODUCTS = 500_000_000  # multiply-adds of a question for which one thread is enough
_GPU_TOKENS = 65536
_SAMPLE = "A text, to see whether the Tokenizer alone does what the model's own preparation does."


class TorchReplica:
    """All modules of a sentence-transformers model."""

    def __init__(self, folder: Path, device: str | None, tokenizer: Tokenizer) -> None:
        import torch

        self._model = load_model(folder, device)
        self._plain = is_plain(self._model, tokenizer)
        self.device = str(self._model.device)
        on_cpu = self._model.device.type == "cpu"
        self._all = torch.get_num_threads()
        self.batch_tokens = CPU_TOKENS * min(self._all, MOST_THREADS) if on_cpu else _GPU_TOKENS
        linear = [part for part in self._model.modules() if isinstance(part, torch.nn.Linear)]
        self._products = sum(part.weight.numel() for part in linear)  # multiply-adds of a token
        self._lean: LeanBert | None = None
        if self._plain:
            samples = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(SAMPLES))]
            self._lean = lean(self._model, samples, self._embed(samples))
        # A card is quicker with one padded batch than with several small operations.
        self._packed = self._lean if on_cpu else None

    def embed(self, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Vectors:
        with _threads(self._all, self._all):
            if self._packed is not None:
                return self._packed.vectors(tokens)
            if self._plain:
                return self._embed(tokens)
            return self._unit_rows(self._model.encode_document, texts)

    @cached_property
    def _recorded(self) -> RecordedBert | None:
        """Made at the first question: who embeds passages alone does without."""
        return recorded(self._lean) if self._lean is not None else None

    def _embed(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        import torch

        ids, mask = padded(tokens, self._model.tokenizer.pad_token_id or 0)
        with torch.inference_mode():
            features = {
                "input_ids": torch.from_numpy(ids).to(self._model.device),
                "attention_mask": torch.from_numpy(mask).to(self._model.device),
            }
            rows = torch.nn.functional.normalize(self._model(features)["sentence_embedding"].float())
            return np.asarray(rows.cpu().numpy(), dtype=np.float32)

    def query(self, text: str, tokens: Sequence[int]) -> Vectors:
        if self._recorded is not None and len(tokens) <= self._recorded.longest:
            return self._recorded.vector(tokens)
        # Threads that share a few milliseconds wait for each other at every layer; beside an engine that
        # has the cores, or the keyword leg, each of those waits is as long as a turn of the scheduler.
        enough = 1 + len(tokens) * self._products // QUESTION_PRODUCTS
        with _threads(min(enough, self._all), self._all):
            if self._lean is not None:
                return self._lean.vector(tokens)
            if self._plain:
                return np.asarray(self._embed([tokens])[0])
            return np.asarray(self._unit_rows(self._model.encode_query, [text])[0])

    def _unit_rows(self, encode: Any, texts: Sequence[str]) -> Vectors:
        rows = encode(list(texts), batch_size=len(texts), show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(rows, dtype=np.float32)


@contextmanager
def _threads(many: int, after: int) -> Iterator[None]:
    """So many threads for what torch computes inside, and `after` of them afterwards.

    The setting is the calling thread's own, and half of it is OpenMP's, which others set as well (faiss for
    a scan): what was set before says nothing, so it is neither asked nor trusted.
    """
    import torch

    torch.set_num_threads(many)
    try:
        yield
    finally:
        torch.set_num_threads(after)


def load_model(
    folder: Path, device: str | None = None, attention: str | None = None
) -> "SentenceTransformer":
    """The model in a folder, ready to embed; on the best device there is, or on the one named.

    `attention` is an implementation that transformers knows, if not its own choice.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # transformers asks this before it draws one for the weights
    from sentence_transformers import SentenceTransformer

    model: SentenceTransformer = SentenceTransformer(
        str(folder),
        device=device,
        local_files_only=True,
        model_kwargs={"attn_implementation": attention} if attention else None,
    )
    return model.eval()


def is_plain(model: "SentenceTransformer", tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer alone prepares a text as the model does: nothing is put in front of it."""
    if any(model.prompts.values()) or model.tokenizer.padding_side != "right":
        return False
    prepared = model.preprocess([_SAMPLE])
    ids = prepared["input_ids"][0].tolist() if "input_ids" in prepared else []
    kinds = prepared.get("token_type_ids")
    return bool(ids == tokenizer.encode(_SAMPLE).ids and (kinds is None or not kinds.any()))
