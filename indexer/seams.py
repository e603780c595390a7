"""What the indexer asks of its replaceable parts."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.records import Chunk, Document, Ranked, Reading

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class Embedder(Protocol):
    """Texts to unit vectors. Safe to call from several threads."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides a vector: equal digests, equal vectors."""
        ...

    @property
    def dimension(self) -> int: ...
    @property
    def max_tokens(self) -> int:
        """The longest text, by `count`, that is embedded without truncation."""
        ...

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not included."""
        ...

    def grasp(self, text: str) -> float:
        """Share of the text's letters, 0..1, that the vocabulary knows as more than loose characters."""
        ...

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension), in the order of the texts."""
        ...

    def query(self, text: str) -> Vectors:
        """One unit vector, shape (dimension,)."""
        ...


class Reranker(Protocol):
    """Judges passages against a question, both read together. Safe to call from several threads."""

    @property
    def name(self) -> str: ...

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Probability of relevance, 0..1, of each passage."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product of unit vectors."""

    def add(self, ids: Ids, vectors: Vectors) -> None: ...
    def remove(self, ids: Ids) -> None: ...
    def nearest(self, vector: Vectors, top: int) -> Ranked:
        """At most `top` ids by decreasing inner product, -1..1."""
        ...


class KeywordIndex(Protocol):
    """Best matches by BM25."""

    def add(self, ids: Ids, texts: Sequence[str]) -> None: ...
    def remove(self, ids: Ids) -> None: ...
    def match(self, query: str, top: int) -> Ranked:
        """At most `top` ids by decreasing score; texts that share no term are left out."""
        ...


class Reader(Protocol):
    """Bytes to documents."""

    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Reading:
        """What is in `data`, a file of that name; raises a subclass of `Unreadable`.

        `first_line` is the number of the first row when `data` is a later part of a JSONL file.
        """
        ...


Splitter = Callable[[Document, Embedder], tuple[Chunk, ...]]
"""A document -> chunks in reading order, none longer than the embedder's window."""
