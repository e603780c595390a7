"""Sentence embedding models: the only file that imports sentence_transformers.

The model is loaded at the first vector, not before: counting tokens and naming the model need
only small files, and the import alone takes seconds.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from indexer.errors import EmbedderMissing
from indexer.hash_embedder import HashEmbedder
from indexer.seams import Embedder, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_DECIDES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.bin")  # what a vector depends on
_BATCH = 32
_HAN = ("\u3400", "\u9fff")


def open_embedder(name: str, models: Path) -> Embedder:
    """`hash`, a model under `models`, a folder, or a hub id, in this order.

    Raises `EmbedderMissing` when it is none of them.
    """
    if name == "hash":
        return HashEmbedder()
    folder = models / name
    if not folder.is_dir():
        folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name, models)
    return SentenceEmbedder(folder, name=Path(name).name if Path(name).is_dir() else name)


class SentenceEmbedder:
    """A sentence-transformers model in a folder."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """Raises `EmbedderMissing` when the folder holds no model with a fast tokenizer."""
        self._folder = folder
        self.name = name or folder.name
        self._loading = threading.Lock()
        self._queue = threading.Lock()
        self._encoding = threading.Lock()
        self._model: SentenceTransformer | None = None
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise EmbedderMissing(
                f"{folder} holds no usable tokenizer.json: run `fewshot models fetch`, "
                "or name a sentence-transformers folder"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files that decide a vector."""
        total = hashlib.sha256()
        files = {path for pattern in _DECIDES for path in self._folder.glob(pattern)}
        files |= set(self._folder.glob("*/config.json")) | set(self._folder.glob("*_Dense/*.safetensors"))
        for path in sorted(files):
            total.update(str(path.relative_to(self._folder)).encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        pooling = self._folder / "1_Pooling" / "config.json"
        if pooling.exists() and not list(self._folder.glob("*_Dense")):
            config = json.loads(pooling.read_bytes())
            if "word_embedding_dimension" in config:
                return int(config["word_embedding_dimension"])
        return int(self._loaded().get_embedding_dimension() or 0)

    @cached_property
    def max_tokens(self) -> int:
        """The model's window less the special tokens around a text."""
        config = self._folder / "sentence_bert_config.json"
        length = json.loads(config.read_bytes()).get("max_seq_length") if config.exists() else None
        if not length:
            length = self._loaded().max_seq_length or 512
        return int(length) - self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not included."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def grasp(self, text: str) -> float:
        """Share of the letters in tokens that carry meaning: not unknown, not a loose character.

        An English vocabulary meets Russian letter by letter and most Chinese as unknown; vectors
        of such text say little. A Han character alone is a word, so it counts when it is known.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = encoding.offsets
        known = letters = 0
        for at, (start, end) in enumerate(spans):
            inside = sum(map(str.isalpha, text[start:end]))
            letters += inside
            if encoding.tokens[at] in ("[UNK]", "<unk>"):
                continue
            glued = (at and spans[at - 1][1] >= start) or (at + 1 < len(spans) and spans[at + 1][0] <= end)
            loose = end - start <= 1 and glued and not _HAN[0] <= text[start:end] <= _HAN[1]
            known += 0 if loose else inside
        return known / letters if letters else 1.0

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension). A query waits for one batch at most."""
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))  # a batch is padded to its longest
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            rows[some] = self._vectors(self._loaded().encode_document, [texts[at] for at in some])
        return rows

    def query(self, text: str) -> Vectors:
        """One unit vector, shape (dimension,)."""
        return np.asarray(self._vectors(self._loaded().encode_query, [text])[0])

    def _vectors(self, encode: Any, texts: list[str]) -> Vectors:
        with self._turn():
            rows = encode(
                texts,
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return np.asarray(rows, dtype=np.float32)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One at a time, because the fast tokenizer keeps its padding in itself.

        Whoever waits for the model holds the queue, so a thread that embeds many batches cannot
        take the next turn before one that came in the meantime.
        """
        with self._queue:
            self._encoding.acquire()
        try:
            yield
        finally:
            self._encoding.release()

    def _loaded(self) -> "SentenceTransformer":
        with self._loading:
            if self._model is None:
                from huggingface_hub.utils.tqdm import disable_progress_bars

                disable_progress_bars()  # transformers asks this before it draws one for the weights
                from sentence_transformers import SentenceTransformer

                self._model = SentenceTransformer(str(self._folder), local_files_only=True)
            return self._model


def _from_hub(name: str, models: Path) -> Path:
    problem = EmbedderMissing(
        f"no embedding model '{name}' in {models}, and it is neither a folder nor a hub id that can be "
        "reached: run `fewshot models fetch`, or set --embedder to a sentence-transformers folder"
    )
    if name.count("/") > 1 or name.startswith((".", "/")) or not name.strip():
        raise problem
    from huggingface_hub import snapshot_download

    skip = ["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "pytorch_model.bin"]
    try:
        return Path(snapshot_download(name, cache_dir=models / "hub", ignore_patterns=skip))
    except Exception as error:  # network, name and permission errors share no base class
        raise problem from error
