"""Load that does not wait for answers: requests at times of their own, each on a connection of its own.

A closed loop asks less of a server that is slow, and so hides how slow it is; this one asks on.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bench.client import CONTENT, READ_BYTES

GIVE_UP_SECONDS = 120.0
NO_ANSWER = 0  # in place of a status: refused or reset by the machine, or nothing within GIVE_UP_SECONDS


class Heard(NamedTuple):
    """One request, from before it connected. Times are time.monotonic()."""

    asked: float
    late: float  # seconds between when it should have been asked and when it was
    first: float  # the first chunk with text; 0 without one
    ended: float
    status: int
    whole: bool  # a stream that came to its end, or an error

    @property
    def good(self) -> bool:
        return self.status == 200 and self.whole

    @property
    def seconds(self) -> float:
        return self.ended - self.asked


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrival times in [0, seconds), `rate` a second on average."""
    draw = np.random.default_rng(seed)
    gaps = draw.exponential(1 / rate, size=int(rate * seconds * 1.5) + 20)
    times = np.cumsum(gaps)
    return [float(at) for at in times[times < seconds]]


def closing(request: bytes) -> bytes:
    """The same request, on a connection that ends with its answer."""
    head, _, rest = request.partition(b"\r\n")
    return head + b"\r\nconnection: close\r\n" + rest


def keyed(request: bytes, key: str) -> bytes:
    """The same request, by the holder of a key."""
    head, _, rest = request.partition(b"\r\n")
    return head + f"\r\nauthorization: Bearer {key}\r\n".encode() + rest


async def ask(port: int, request: bytes, due: float | None = None) -> Heard:
    """One request, made by `closing`, on a connection of its own."""
    asked = time.monotonic()
    late = 0.0 if due is None else asked - due
    first, body = 0.0, b""
    try:
        async with asyncio.timeout(GIVE_UP_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
            try:
                writer.write(request)
                while got := await reader.read(READ_BYTES):
                    body += got
                    if not first and CONTENT in body:
                        first = time.monotonic()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Heard(asked, late, first, time.monotonic(), NO_ANSWER, False)
    status = int(body[9:12]) if body.startswith(b"HTTP/1.1 ") else NO_ANSWER
    streamed = b"text/event-stream" in body[:2000]
    whole = b"data: [DONE]" in body[-100:] if streamed else bool(body)
    return Heard(asked, late, first, time.monotonic(), status, whole)


async def flood(
    port: int, request: Callable[[int], bytes], times: list[float], say: Callable[[str], object]
) -> list[Heard]:
    """`request(number)` at each of the times, seconds from now; all answers, in order of asking."""
    began = time.monotonic()
    asking: list[asyncio.Task[Heard]] = []
    for number, offset in enumerate(times):
        wait = began + offset - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        asking.append(asyncio.create_task(ask(port, request(number), began + offset)))
        if number % 500 == 499:
            say(f"{offset:.0f} s: {number + 1} asked")
    return list(await asyncio.gather(*asking))


def windows(heard: list[Heard], seconds: float, since: float, until: float) -> Iterator[list[Heard]]:
    """What ended in each whole window of `seconds` between two times."""
    for number in range(int((until - since) / seconds)):
        start = since + number * seconds
        yield [one for one in heard if start <= one.ended < start + seconds]
