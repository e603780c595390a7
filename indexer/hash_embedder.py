"""An embedder without a model: same text, same vector. For tests and smoke set-ups.

Each term is hashed to a signed coordinate (feature hashing, Weinberger et al. 2009), so texts
that share words are near; meaning is beyond it.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from indexer.seams import Vectors
from indexer.words import CJK, words

_TOKENS = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")


EXACT = 2**24  # whole numbers below it are the same in 32 bits


def _squares(values: Iterable[float]) -> float:
    return sum([value * value for value in values])


class HashEmbedder:
    """Bag of hashed words, unit length."""

    def __init__(self, dimension: int = 256, max_tokens: int = 256) -> None:
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.name = "hash"
        self.digest = hashlib.sha256(f"hash-1 {dimension} {max_tokens}".encode()).hexdigest()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Words, single CJK characters and punctuation marks."""
        return [len(_TOKENS.findall(text)) for text in texts]

    def grasp(self, text: str) -> float:
        """1: hashing knows every word equally well."""
        return 1.0

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension)."""
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            sums: dict[int, float] = {}  # of 32 bits, as they would be in the row: which is slower to add to
            for word, times in Counter(words(text)).items():
                digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                weight = 1.0 if times == 1 else 1.0 + float(np.log(times))
                at = digest % self.dimension
                total = sums.get(at, 0.0) + (weight if digest >> 63 else -weight)
                sums[at] = total if total.is_integer() else float(np.float32(total))
            if not any(sums.values()):  # no words, or they cancelled: still a unit vector
                sums = {0: 1.0}
            if all(map(float.is_integer, sums.values())) and (squares := _squares(sums.values())) < EXACT:
                # Numbers of 32 bits in the end, whichever way: 64 bits round once more, and to the same.
                length = float(np.float32(math.sqrt(squares)))
                for at, value in sums.items():
                    row[at] = value / length
            else:
                row[list(sums)] = list(sums.values())
                row /= np.sqrt(np.add.reduce(row * row))
        return rows

    def query(self, text: str) -> Vectors:
        """One unit vector, shape (dimension,)."""
        return np.asarray(self.passages([text])[0])
