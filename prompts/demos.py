"""The pool of worked examples: picks those to show for a question."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.discriminant import label_nearness
from prompts.errors import PoolError
from prompts.listing import Listing, parse_lines, same_text
from prompts.records import Demo, DemoPolicy, Order, Strategy
from prompts.seams import Embed
from prompts.selection import arranged, by_hash, by_nearness, in_order, take
from prompts.vectors import checked, vectors_of


class Picked(NamedTuple):
    demos: tuple[Demo, ...]  # in the order in which they are to be read
    scores: tuple[float, ...]  # of the same demos; larger is better, the lowest gives way first


class Pool:
    """Worked examples that do not change, with the vectors of their inputs when an embedder is given."""

    def __init__(
        self,
        listing: Listing,
        *,
        vectors: NDArray[np.float32] | None = None,
        embed: Embed | None = None,
        label_weight: float = 0.0,
    ) -> None:
        """`label_weight` (0..1): how far `nearest` goes by what the labels teach (`prompts.discriminant`)."""
        self.demos = listing.demos
        self.digest = listing.digest
        self.duplicates = listing.duplicates
        self._vectors = None if vectors is None else checked(vectors, len(self.demos))
        self._embed = embed
        labels = [demo.label for demo in self.demos]
        self._by_label = (
            None if self._vectors is None else label_nearness(self._vectors, labels, label_weight)
        )
        # a draw serves every question, and hashing a large pool costs more than the rest of a request
        self._drawn = lru_cache(maxsize=16)(lambda seed: by_hash(self.demos, seed, self.digest))
        self._hashes = [same_text(demo.input) for demo in self.demos]
        by_id = sorted(range(len(self.demos)), key=lambda at: self.demos[at].id)
        self._id_ranks = np.empty(len(by_id), dtype=np.int64)
        self._id_ranks[by_id] = np.arange(len(by_id))

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        embed: Embed | None = None,
        embedder: str = "",
        cache: Path | None = None,
        label_weight: float = 0.0,
    ) -> Pool:
        """The pool in a JSONL file. With `embed`, inputs are embedded once and kept in the folder `cache`.

        `embedder` is the digest of the embedding model; `cache` is the file's own folder by default.
        Raises PoolInvalid for lines that break the format.
        """
        with path.open(encoding="utf-8") as lines:
            listing = parse_lines(lines, str(path))
        if embed is None:
            return cls(listing)
        beside = (cache or path.parent) / f"{path.stem}.vectors"
        vectors = vectors_of(listing.demos, listing.digest, embed=embed, embedder=embedder, beside=beside)
        return cls(listing, vectors=vectors, embed=embed, label_weight=label_weight)

    def __len__(self) -> int:
        return len(self.demos)

    def pick(
        self,
        question: str,
        count: int,
        *,
        strategy: Strategy = "nearest",
        vector: NDArray[np.float32] | None = None,
        order: Order = "nearest_last",
        max_distance: float | None = None,
        per_label: int | None = None,
        seed: int = 0,
    ) -> Picked:
        """At most `count` demos, never the question itself.

        `vector` is the question's unit vector, shape (d,); without it `nearest` embeds the question.
        `max_distance` (1 - cosine) and `order` apply to `nearest` only: `fixed` reads as listed, `random` as
        drawn. Too few that pass mean fewer demos, never worse ones. Raises PoolError when `nearest` has no
        vectors to go by.
        """
        itself = same_text(question)
        cosines: NDArray[np.float32] | None = None
        nearness: NDArray[np.float32] | None = None
        match strategy:
            case "none":
                return Picked((), ())
            case "fixed":
                ranked = in_order(self.demos)
            case "random":
                ranked = self._drawn(seed)
            case "nearest":
                vectors, vector = self._vectors_for(question, vector)
                cosines = vectors @ vector
                nearness = cosines if self._by_label is None else self._by_label(vector, cosines)
                ranked = by_nearness(nearness, self._id_ranks)

        def allowed(at: int) -> bool:
            far = max_distance is not None and cosines is not None and 1 - cosines[at] > max_distance
            return not far and self._hashes[at] != itself

        taken = take(ranked, self.demos, count, allowed=allowed, per_label=per_label)
        if nearness is None:
            return self._picked(taken, [float(-rank) for rank in range(len(taken))])
        rows = arranged(taken, order)
        return self._picked(rows, [float(nearness[at]) for at in rows])

    def follow(self, policy: DemoPolicy, question: str, vector: NDArray[np.float32] | None = None) -> Picked:
        """Pick as a template's or an arm's policy says."""
        return self.pick(
            question,
            policy.count,
            strategy=policy.strategy,
            vector=vector,
            order=policy.order,
            max_distance=policy.max_distance,
            per_label=policy.per_label,
            seed=policy.seed,
        )

    def _picked(self, rows: list[int], scores: list[float]) -> Picked:
        return Picked(tuple(self.demos[at] for at in rows), tuple(scores))

    def _vectors_for(
        self, question: str, vector: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The pool's vectors, shape (n, d), and the question's, shape (d,)."""
        if self._vectors is None:
            raise PoolError("nearest demonstrations need vectors: load the pool with an embedder")
        if vector is None:
            if self._embed is None:
                raise PoolError("nearest demonstrations need the question's vector or an embedder")
            vector = checked(np.asarray(self._embed([question]), dtype=np.float32), 1)[0]
        if vector.shape != self._vectors.shape[1:]:
            wanted = self._vectors.shape[1]
            raise PoolError(
                f"the question's vector has the shape {vector.shape}, the pool's have ({wanted},)"
            )
        # explicitly float32: a float64 vector would copy the whole pool
        return self._vectors, vector.astype(np.float32, copy=False)
