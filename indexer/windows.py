"""Chunks longer than the embedder's window: embedded in several windows, never cut off."""

from collections.abc import Sequence

import numpy as np

from indexer.chunking import Chunking
from indexer.passages import SHARE
from indexer.seams import Embedder, Vectors
from indexer.splitting import windows


class Windowed:
    """An embedder whose passages may have any length: the mean of their windows' vectors, by tokens."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.digest = embedder.name, embedder.digest
        self.dimension, self.max_tokens = embedder.dimension, embedder.max_tokens

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not included."""
        return self._embedder.count(texts)

    def grasp(self, text: str) -> float:
        """Share of the text's letters that the vocabulary knows, 0..1."""
        return self._embedder.grasp(text)

    def query(self, text: str) -> Vectors:
        """One unit vector, shape (dimension,)."""
        return self._embedder.query(text)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension)."""
        pieces: list[str] = []
        owners: list[int] = []
        for at, (text, tokens) in enumerate(zip(texts, self.count(texts), strict=True)):
            parts = [text] if tokens <= self.max_tokens else windows(text, self._embedder)
            pieces += parts
            owners += [at] * len(parts)
        vectors = self._embedder.passages(pieces)
        if len(pieces) == len(texts):
            return vectors
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        np.add.at(rows, owners, vectors * np.maximum(1, self.count(pieces))[:, None])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def reaching(embedder: Embedder, chunking: Chunking) -> Embedder:
    """The embedder itself, or one for chunks that can be longer than its window."""
    before = 2 * (embedder.max_tokens // SHARE)  # where it stands and the header of its table
    room = embedder.max_tokens - before
    longer = chunking.strategy == "static" and (chunking.max_tokens or 0) > room
    return Windowed(embedder) if longer else embedder
