"""A client of many streams in several processes: one Python process reads 50,000 tokens a second at most.

What each stream said is looked at where it was read; only what is held against other arms comes back.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from bench.client import Told, closed_loop, connected


class Answer(NamedTuple):
    """One streamed answer. Times are time.monotonic()."""

    asked: float
    first: float
    ended: float
    problem: str  # empty: none
    id: str
    prompt_sha256: str
    tokens: int
    cached_tokens: int

    @property
    def ttft(self) -> float:
        return self.first - self.asked


class Sent(NamedTuple):
    """The answers in the order of the requests, and what asking took."""

    answers: list[Answer]
    seconds: float  # from the first question to the last answer
    client_share: float  # of a core, the busiest process


class Crowd:
    """Client processes that wait for work."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes

    async def send(self, port: int, requests: Sequence[bytes], concurrency: int) -> Sent:
        """Every request once, `concurrency` at a time over all processes, each asking again when answered."""
        return await asyncio.to_thread(self._send, port, requests, concurrency)

    def _send(self, port: int, requests: Sequence[bytes], concurrency: int) -> Sent:
        busy = self._pipes[: max(1, min(len(self._pipes), concurrency))]
        start = time.monotonic() + 0.05  # all have their connections open by then
        for number, pipe in enumerate(busy):
            own = concurrency // len(busy) + (number < concurrency % len(busy))
            pipe.send((port, requests[number :: len(busy)], own, start))
        parts: list[tuple[list[Answer], float]] = [pipe.recv() for pipe in busy]
        queues = [iter(mine) for mine, _ in parts]
        found = [next(queues[number % len(busy)]) for number in range(len(requests))]
        seconds = max(answer.ended for answer in found) - min(answer.asked for answer in found)
        return Sent(found, seconds, max(share for _, share in parts))


@contextmanager
def crowd(processes: int) -> Iterator[Crowd]:
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(processes)]
    children = [context.Process(target=_work, args=(theirs,), daemon=True) for _, theirs in pairs]
    for child in children:
        child.start()
    try:
        yield Crowd([ours for ours, _ in pairs])
    finally:
        for ours, _ in pairs:
            ours.send(None)
        for child in children:
            child.join(10)


def _work(pipe: Connection) -> None:
    while (asked := pipe.recv()) is not None:
        pipe.send(asyncio.run(_ask(*asked)))


async def _ask(
    port: int, requests: Sequence[bytes], concurrency: int, start: float
) -> tuple[list[Answer], float]:
    async with connected(port, concurrency) as connections:
        await asyncio.sleep(max(start - time.monotonic(), 0))
        clock, own = time.monotonic(), time.process_time()
        told = await closed_loop(connections, requests)
        share = (time.process_time() - own) / (time.monotonic() - clock)
    return [seen(answer) for answer in told], share


def seen(told: Told) -> Answer:
    """What a stream said, without its text."""
    if not told.ok:
        return Answer(
            told.asked, told.first, told.ended, told.body[-300:].decode(errors="replace"), "", "", 0, 0
        )
    head, usage = told.first_event(), told.usage()
    return Answer(
        told.asked,
        told.first,
        told.ended,
        "",
        head["id"],
        head["fewshot"]["prompt_sha256"],
        usage["completion_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
    )
