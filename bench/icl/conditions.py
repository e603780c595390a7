"""What is compared: strategies × numbers of examples × seeds, and the prompts of each, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.few_shot import vote
from bench.icl.packs import Opened, open_ready
from bench.icl.reading import PlainTokenizer
from prompts.demos import Picked
from prompts.layout import lay_out
from prompts.records import Message, Strategy
from server.token_reading import TokenReading

SHOTS = (4, 8, 16)
SEEDS = (11, 23, 37, 53, 71)
Ids = NDArray[np.int32]


class Condition(NamedTuple):
    """A row of the table. Several seeds are several draws of the same condition."""

    name: str
    shots: int = 0
    strategy: Strategy = "none"
    vectors: str = "text"
    seeds: tuple[int, ...] = (0,)

    @property
    def key(self) -> str:
        return f"{self.name} {self.shots}" if self.shots else self.name


class Row(NamedTuple):
    """One prompt."""

    ids: Ids
    vote: float  # share of the right label among the demos' most frequent ones; NaN without demos


def conditions(shots: Sequence[int], seeds: Sequence[int], own: bool) -> list[Condition]:
    """Zero-shot and, for each number of examples, every strategy; `own`: there is a second embedder."""
    found = [Condition("zero-shot")]
    for count in shots:
        found += [
            Condition("random", count, "random", seeds=tuple(seeds)),
            Condition("BM25", count, "bm25"),
            Condition("nearest", count, "nearest", "labels"),
            Condition("nearest by text", count, "nearest"),
            Condition("MMR", count, "mmr"),
            Condition("DPP", count, "dpp"),
            Condition("balanced", count, "balanced"),
        ]
        found += [Condition("nearest by the model's states", count, "nearest", "own")] if own else []
    return found


class Bound:
    """A `Count` that tokenises only where the number of bytes leaves a doubt."""

    def __init__(self, reading: TokenReading, room: int) -> None:
        self._reading = reading
        self._room = room

    def __call__(self, messages: Sequence[Message], /) -> int:
        """An upper bound that fits the room, or the exact number: a token is at least a byte."""
        most = sum(len(message.text.encode()) + 16 for message in messages) + 16
        return most if most <= self._room else self._reading(messages)


def laid_out(
    pack: Opened, chosen: Sequence[Condition], rows: range, reading: TokenReading, room: int
) -> list[list[Row]]:
    """The prompts of the items `rows`: for each condition, seed by seed; the question is never shown."""
    assert pack.template.labels is not None
    ids = [label.id for label in pack.template.labels.labels]
    count = Bound(reading, room)
    found = []
    for condition in chosen:
        for seed in condition.seeds:
            one = []
            for at in rows:
                picked = _picked(pack, condition, seed, at)
                prompt = lay_out(
                    pack.template,
                    question=pack.texts[at],
                    demos=picked.demos,
                    demo_scores=picked.scores,
                    room=room,
                    count=count,
                )
                right = vote(picked, ids[pack.gold[at]]) if picked.demos else float("nan")
                one.append(Row(np.array(reading.ids(prompt.messages), dtype=np.int32), right))
            found.append(one)
    return found


def _picked(pack: Opened, condition: Condition, seed: int, at: int) -> Picked:
    return pack.pools[condition.vectors].pick(
        pack.texts[at],
        condition.shots,
        strategy=condition.strategy,
        vector=pack.vectors[condition.vectors][at],
        seed=seed,
    )


# --- in other processes


class Job(NamedTuple):
    """Part of a pack, for a process of its own."""

    name: str
    folder: Path
    model: Path
    chosen: tuple[Condition, ...]
    rows: range
    room: int


def work(job: Job) -> list[list[Row]]:
    pack = _opened(job.name, job.folder)
    reading = TokenReading(tokenizer_of(job.model), pack.template.layout.format == "plain")
    return laid_out(pack, job.chosen, job.rows, reading, job.room)


@lru_cache(maxsize=1)
def _opened(name: str, folder: Path) -> Opened:
    return open_ready(name, folder)


@lru_cache(maxsize=1)
def tokenizer_of(model: Path) -> PlainTokenizer:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    return PlainTokenizer(tokenizer)
