"""The pool of worked examples: picks those to show for a question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.discriminant import label_nearness
from prompts.diversity import DPP_FROM, MMR_FROM, LabelCap, by_dpp, by_mmr
from prompts.errors import PoolError
from prompts.keyword_scores import Bm25
from prompts.listing import Listing, parse_lines, same_text
from prompts.ordering import arranged
from prompts.records import Demo, DemoPolicy, Order, Strategy
from prompts.seams import Embed
from prompts.selection import by_hash, by_nearness, in_order, round_robin, take
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
        max_distance: float | None = None,
    ) -> None:
        """`label_weight` (0..1): how far `nearest` goes by what the labels teach (`prompts.discriminant`).

        `max_distance` is the pool's own gate, for picks that name none.
        """
        self.demos = listing.demos
        self.digest = listing.digest
        self.duplicates = listing.duplicates
        self._vectors = None if vectors is None else checked(vectors, len(self.demos))
        self._embed = embed
        labels = [demo.label for demo in self.demos]
        self._by_label = (
            None if self._vectors is None else label_nearness(self._vectors, labels, label_weight)
        )
        self._gate = max_distance
        # a draw serves every question, and hashing a large pool costs more than the rest of a request
        self._drawn = lru_cache(maxsize=16)(lambda seed: by_hash(self.demos, seed, self.digest))
        self._places = {demo.id: at for at, demo in enumerate(self.demos)}
        self._same: dict[str, list[int]] = {}
        self._units: dict[str, list[int]] = {}
        for at, demo in enumerate(self.demos):
            self._same.setdefault(same_text(demo.input), []).append(at)
            if demo.unit is not None:
                self._units.setdefault(demo.unit, []).append(at)
        self._by_id = np.array(
            sorted(range(len(self.demos)), key=lambda at: self.demos[at].id), dtype=np.int64
        )
        self._id_ranks = np.empty(len(self._by_id), dtype=np.int64)
        self._id_ranks[self._by_id] = np.arange(len(self._by_id))

    @cached_property
    def _keywords(self) -> Bm25:
        return Bm25([demo.input for demo in self.demos])

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
        ids: Sequence[str] = (),
        unit: str | None = None,
    ) -> Picked:
        """At most `count` demos, never the question itself, nor a demo of the same `unit`.

        `vector` is the question's unit vector, shape (d,); without it strategies that go by vectors embed
        the question. `max_distance` (1 - cosine) and `order` apply to strategies that go by the question:
        `fixed` reads as listed (or as `ids` say), `random` as drawn. Too few that pass mean fewer demos,
        never worse ones. Raises PoolError when a strategy or the gate has no vectors to go by, or when one
        of `ids` is not in the pool.
        """
        closed = {*self._same.get(same_text(question), ()), *(self._units.get(unit, ()) if unit else ())}
        if strategy in ("none", "fixed", "random"):
            listed = self._without_question(strategy, seed, ids)
            taken = take(listed, self.demos, count, closed=closed, per_label=per_label)
            return self._picked(taken, [float(-rank) for rank in range(len(taken))])
        gate = self._gate if max_distance is None else max_distance
        cosines: NDArray[np.float32] | None = None
        if gate is not None or strategy in ("nearest", "mmr", "dpp", "balanced"):
            vectors, vector = self._vectors_for(question, vector)
            cosines = vectors @ vector
        open_ = np.ones(len(self.demos), dtype=bool)
        if gate is not None and cosines is not None:
            open_ = 1 - cosines <= gate
        open_[list(closed)] = False
        rows = np.flatnonzero(open_)
        scores, taken = self._gone_by(strategy, question, vector, cosines, rows, count, seed, per_label)
        best_first = sorted(taken, key=lambda at: (-scores[at], self._id_ranks[at]))
        read = arranged(best_first, order, self.demos, seed)
        return self._picked(read, [float(scores[at]) for at in read])

    def static(self, policy: DemoPolicy) -> tuple[Demo, ...]:
        """The demos that a policy shows with every question, in the order in which they are to be read.

        `balanced` goes by the seed here. Raises PoolError for a strategy that goes by the question.
        """
        if policy.strategy == "balanced":
            ranked: Sequence[int] = round_robin(self._drawn(policy.seed), self.demos)
        elif policy.strategy in ("none", "fixed", "random"):
            ranked = self._without_question(policy.strategy, policy.seed, policy.ids)
        else:
            raise PoolError(f"{policy.strategy!r} goes by the question, so its demos cannot be static")
        taken = take(ranked, self.demos, policy.count, closed=frozenset(), per_label=policy.per_label)
        if policy.order in ("shuffled", "interleaved"):
            taken = arranged(taken, policy.order, self.demos, policy.seed)
        return tuple(self.demos[at] for at in taken)

    def follow(
        self,
        policy: DemoPolicy,
        question: str,
        vector: NDArray[np.float32] | None = None,
        unit: str | None = None,
    ) -> Picked:
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
            ids=policy.ids,
            unit=unit,
        )

    def _without_question(self, strategy: Strategy, seed: int, ids: Sequence[str]) -> Sequence[int]:
        if strategy == "none":
            return ()
        if strategy == "random":
            return self._drawn(seed)
        if missing := [one for one in ids if one not in self._places]:
            raise PoolError(f"the pool has no demonstration {', '.join(map(repr, missing))}")
        return [self._places[one] for one in ids] if ids else in_order(self.demos)

    def _gone_by(
        self,
        strategy: Strategy,
        question: str,
        vector: NDArray[np.float32] | None,
        cosines: NDArray[np.float32] | None,
        rows: NDArray[np.int64],
        count: int,
        seed: int,
        per_label: int | None,
    ) -> tuple[NDArray[np.float32], list[int]]:
        """All rows' scores, and the chosen of `rows`, by a strategy that goes by the question."""

        def first(ranked: Iterable[int]) -> list[int]:
            return take(ranked, self.demos, count, closed=frozenset(), per_label=per_label)

        if strategy == "random_each":
            drawn = by_hash([self.demos[at] for at in rows], seed, f"{self.digest}\n{same_text(question)}")
            taken = first(int(rows[at]) for at in drawn)
            scores = np.zeros(len(self.demos), dtype=np.float32)
            scores[taken] = -np.arange(len(taken), dtype=np.float32)
            return scores, taken
        if strategy == "bm25":
            scores = self._keywords.scores(question)
            return scores, first(by_nearness(scores, self._id_ranks, rows[scores[rows] > 0]))
        assert cosines is not None  # the caller computed them for every other strategy
        if strategy == "nearest":
            if self._by_label is not None and vector is not None:
                cosines = self._by_label(vector, cosines)
            return cosines, first(by_nearness(cosines, self._id_ranks, rows))
        ranked = by_nearness(cosines, self._id_ranks, rows)
        if strategy == "balanced":
            return cosines, first(round_robin(ranked, self.demos))
        near = list(islice(ranked, MMR_FROM if strategy == "mmr" else DPP_FROM))
        near.sort(key=lambda at: self._id_ranks[at])
        choose, cap = by_mmr if strategy == "mmr" else by_dpp, LabelCap(self.demos, per_label)
        assert self._vectors is not None
        return cosines, choose(near, self._vectors, cosines, count, cap)

    def _picked(self, rows: Sequence[int], scores: list[float]) -> Picked:
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
