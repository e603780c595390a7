"""Sentence embedding models in folders, once per device.

The model is loaded at the first vector, not before: counting tokens and naming the model need
only small files, and the import alone takes seconds.
"""

import hashlib
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from indexer.batches import Replica, batched
from indexer.errors import EmbedderMissing
from indexer.hash_embedder import HashEmbedder
from indexer.seams import Embedder, Vectors
from indexer.sentence_models import TorchReplica, load_model

_DECIDES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.bin")  # what a vector depends on
_HAN = ("\u3400", "\u9fff")
INT8 = ":int8"  # after a model's name


def open_embedder(name: str, models: Path, devices: Sequence[str] = ()) -> Embedder:
    """`hash`, a model under `models`, a folder, or a hub id, in this order; `:int8` after it quantises it.

    `devices` as torch names them (`cuda:0`), one replica each; none: the best there is. Raises
    `EmbedderMissing` when it is none of them.
    """
    if name == "hash":
        return HashEmbedder()
    plain = name.removesuffix(INT8)
    folder = models / plain
    if not folder.is_dir():
        folder = Path(plain).expanduser()
    if not folder.is_dir():
        folder = _from_hub(plain, models)
    short = Path(plain).name if Path(plain).is_dir() else plain
    if name == plain:
        return SentenceEmbedder(folder, short, devices)
    from indexer.int8 import Int8Embedder  # there this module is needed

    return Int8Embedder(folder, short + INT8, len(devices) or 1, models / "int8")


class SentenceEmbedder:
    """A sentence-transformers model in a folder, once per device."""

    def __init__(self, folder: Path, name: str | None = None, devices: Sequence[str] = ()) -> None:
        """`devices` as torch names them, one replica each; none given: the best this machine has.

        Raises `EmbedderMissing` when the folder holds no model with a fast tokenizer.
        """
        self._folder = folder
        self.name = name or folder.name
        self._devices: tuple[str | None, ...] = tuple(devices) or (None,)
        self._loading = threading.Lock()
        self._queue = threading.Lock()
        self._free: queue.SimpleQueue[Replica] = queue.SimpleQueue()
        self._replicas: tuple[Replica, ...] = ()
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._cutting = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise EmbedderMissing(
                f"{folder} holds no usable tokenizer.json: run `fewshot models fetch`, "
                "or name a sentence-transformers folder"
            ) from error
        for tokenizer in (
            self._tokenizer,
            self._cutting,
        ):  # the second one cuts to the window, once it is ready
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)

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
        return int(load_model(self._folder).get_embedding_dimension() or 0)

    @cached_property
    def max_tokens(self) -> int:
        """The model's window less the special tokens around a text."""
        config = self._folder / "sentence_bert_config.json"
        length = json.loads(config.read_bytes()).get("max_seq_length") if config.exists() else None
        if not length:
            length = load_model(self._folder).max_seq_length or 512
        return int(length) - self._specials

    @property
    def device(self) -> str:
        """Where the first replica computes, as torch names it; loads the model."""
        return self._ready()[0].device

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
        """Unit rows, shape (n, dimension), equal up to rounding however texts are batched.

        A query waits for one batch at most.
        """
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return rows
        replicas = self._ready()
        tokens = [encoding.ids for encoding in self._cutting.encode_batch_fast(list(texts))]
        batches = batched([len(ids) for ids in tokens], replicas[0].batch_tokens)

        def fill(batch: list[int]) -> None:
            with self._turn() as replica:
                rows[batch] = replica.embed([texts[at] for at in batch], [tokens[at] for at in batch])

        if len(replicas) == 1 or len(batches) == 1:
            for batch in batches:
                fill(batch)
        else:
            with ThreadPoolExecutor(len(replicas), thread_name_prefix="replica") as pool:
                list(pool.map(fill, batches))
        return rows

    def query(self, text: str) -> Vectors:
        """One unit vector, shape (dimension,)."""
        self._ready()
        tokens = self._cutting.encode_batch_fast([text])[0].ids
        with self._turn() as replica:
            return replica.query(text, tokens)

    @contextmanager
    def _turn(self) -> Iterator[Replica]:
        """A replica, for one thread.

        Whoever waits for one holds the queue, so a thread that embeds many batches cannot take the
        next turn before one that came in the meantime.
        """
        with self._queue:
            replica = self._free.get()
        try:
            yield replica
        finally:
            self._free.put(replica)

    def _ready(self) -> tuple[Replica, ...]:
        with self._loading:
            if not self._replicas:
                self._cutting.enable_truncation(self.max_tokens + self._specials)
                self._replicas = self._open()
                for replica in self._replicas:
                    self._free.put(replica)
            return self._replicas

    def _open(self) -> tuple[Replica, ...]:
        return tuple(TorchReplica(self._folder, device, self._cutting) for device in self._devices)


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
