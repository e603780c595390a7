"""A store of made-up passages for goals that need a large one, and questions about them.

The questions are embedded by the real model, for that is timed; the passages' vectors are random, for a
hundred thousand of them would take hours on a processor. Which passages are found is then chance, what it
costs is not.
"""

import hashlib
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from bench.rows import unit
from indexer.backlog import Quiet
from indexer.catalogue import Catalogue
from indexer.ingest import ingest
from indexer.sandbox import Sandbox
from indexer.seams import Embedder, Vectors
from indexer.splitting import Splitting

STORE = "library"
DEMO = Path(__file__).parents[1] / "deploy" / "demo" / "abstracts.jsonl"
PASSAGE_WORDS = 90  # about 140 tokens: five of them, fenced, make W2's prompt of 1,900; one chunk each
QUESTION_WORDS = 18  # W2: 32 tokens
MOST_INGESTED = 200_000  # passages; more are written by bench/large_library.py


class Chance:
    """The embedder's questions, and random unit vectors for passages."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.digest = embedder.name, embedder.digest
        self.dimension, self.max_tokens = embedder.dimension, embedder.max_tokens
        self.count, self.grasp, self.query = embedder.count, embedder.grasp, embedder.query

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Of each text its own, the same every time."""
        return random_vectors(texts, self.dimension)


def random_vectors(texts: Sequence[str], dimension: int) -> Vectors:
    """A unit vector for each text, shape (texts, dimension), drawn by its digest."""
    rows = np.empty((len(texts), dimension), np.float32)
    for row, text in zip(rows, texts, strict=True):
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        row[:] = np.random.default_rng(seed).standard_normal(dimension, np.float32)
    return unit(rows)


@cache
def words_of_abstracts() -> list[str]:
    """Every word of the demo's abstracts as often as it stands there: some all over, most once."""
    rows = DEMO.read_text().splitlines()
    return [word for row in rows for word in json.loads(row)["text"].split()]


def passage(number: int) -> str:
    """The words of a passage, of which the first is its own."""
    words = random.Random(number).choices(words_of_abstracts(), k=PASSAGE_WORDS - 1)
    return " ".join([f"case{number}", *words])


def build(data: Path, passages: int, embedder: Embedder) -> None:
    """The store, made by the product's own pipeline; each passage is one chunk."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as scratch:
        corpus = Path(scratch, "corpus.jsonl")
        with corpus.open("w") as lines:
            for number in range(passages):
                lines.write(json.dumps({"id": str(number), "text": passage(number)}) + "\n")
        catalogue, sandbox = Catalogue(data), Sandbox()
        try:
            ingest(catalogue, STORE, [corpus], Chance(embedder), sandbox, Splitting(), Quiet())
        finally:
            sandbox.close()
            catalogue.close()


def fill(data: Path, passages: int, embedder: Embedder, say: Callable[[str], object]) -> None:
    """Make the store, unless the folder has it already."""
    data.mkdir(parents=True, exist_ok=True)
    if (data / "stores").is_dir():
        return
    began = time.monotonic()
    if passages > MOST_INGESTED:
        from bench.large_library import write  # which needs this module

        say(f"writing {passages:,} passages")
        write(data, passages, embedder)
    else:
        say(f"ingesting {passages:,} passages")
        build(data, passages, embedder)
    say(f"{passages:,} passages in {time.monotonic() - began:.0f} s")


@cache
def _zipf(passages: int) -> list[float]:
    """Cumulative weights."""
    return list(itertools.accumulate(1 / rank for rank in range(1, passages + 1)))


def questions(passages: int, count: int, seed: int) -> list[str]:
    """Words of passages that are drawn by Zipf's law (α 1): some are asked for far more often than others."""
    draw = random.Random(seed)
    found = []
    for number in draw.choices(range(passages), cum_weights=_zipf(passages), k=count):
        words = passage(number).split()
        found.append(" ".join([*draw.sample(words[1:], QUESTION_WORDS - 1), words[0]]))
    return found
