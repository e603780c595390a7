"""Time between the tokens of streams that run beside something, by what that something was doing."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import numpy as np

from bench.desk import Desk

TOKENS = 64  # of each answer; then the next one


class Gaps:
    """A gap belongs to every phase that it overlaps."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._phases: dict[str, list[tuple[float, float]]] = defaultdict(list)

    @classmethod
    @asynccontextmanager
    async def of(cls, desk: Desk, prompts: Sequence[str]) -> "AsyncIterator[Gaps]":
        """A stream of the base for each prompt goes on until the block is left."""
        gaps, done = cls(), asyncio.Event()

        async def listen(prompt: str) -> None:
            while not done.is_set():
                times = await desk.stream(None, prompt, TOKENS)
                gaps._gaps.extend(itertools.pairwise(times))

        streams = [asyncio.ensure_future(listen(prompt)) for prompt in prompts]
        try:
            yield gaps
        finally:
            done.set()
            await asyncio.gather(*streams)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name].append((began, time.perf_counter()))

    def all(self, name: str) -> list[float]:
        """Seconds of every gap in phases of this name."""
        return [gap for each in self._each(name) for gap in each]

    def longest(self, name: str) -> float:
        """Seconds of the longest gap in a phase of this name: the median over its phases."""
        return float(np.median([max(each) for each in self._each(name) if each]))

    def _each(self, name: str) -> list[list[float]]:
        return [
            [after - before for before, after in self._gaps if after > began and before < ended]
            for began, ended in self._phases[name]
        ]
