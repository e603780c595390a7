"""L1 of the fault catalogue: twice the load that the engine can serve, and then ten times in a burst.

The engine is an echo that decodes at a fixed pace, so its peak is known and nothing but the server decides
what becomes of it. What is measured: whether as much is served under overload as at the peak, how soon the
surplus is told so, and that nobody sees a failure.
"""

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from bench.checks import below_its_core
from bench.client import chat
from bench.command import goal_options, measured
from bench.machine import Watch
from bench.open_loop import NO_ANSWER, Heard, ask, closing, flood, poisson, windows
from bench.processor import memory_mb
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, estimate
from bench.servers import fewshot_server

TOKENS = 16
TOKEN_SECONDS = 0.03
RUNNING = 16
QUEUE = 64
WINDOW_SECONDS = 5.0
MUST_GOODPUT, MOON_GOODPUT = 0.95, 0.99
MUST_REFUSED_MS = 50.0
MUST_GROWTH_MB = 100.0
MUST_NORMAL_SECONDS = 5.0
LATEST_SECONDS = 0.05  # a client that asks later than this is what is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    peak_seconds: float
    overload_seconds: float
    burst_seconds: float


QUICK = Effort(peak_seconds=10, overload_seconds=20, burst_seconds=3)
FULL = Effort(peak_seconds=30, overload_seconds=300, burst_seconds=10)


class Load:
    """Everything asked of one server, by phase."""

    def __init__(self, pid: int, port: int, say: Callable[[str], object]) -> None:
        self.pid = pid
        self.port = port
        self.client_share = 0.0
        self.late: list[float] = []
        self._say = say
        self._seed = itertools.count(1)
        self._requests = [closing(chat("echo", f"Question {n}?", TOKENS)) for n in range(64)]

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        clock, own = time.monotonic(), time.process_time()
        yield
        share = (time.process_time() - own) / (time.monotonic() - clock)
        self.client_share = max(self.client_share, share)

    async def peak(self, seconds: float) -> float:
        """Answers a second when twice as many ask as run, each again as soon as it is answered."""
        done: list[Heard] = []
        end = time.monotonic() + seconds

        async def again(number: int) -> None:
            while time.monotonic() < end:
                done.append(await ask(self.port, self._requests[number % len(self._requests)]))

        began = time.monotonic()
        async with self._watched():
            await asyncio.gather(*(again(number) for number in range(2 * RUNNING)))
        # Without the beginning and the end, when the engine is not full.
        margin = 2 * TOKENS * TOKEN_SECONDS
        inside = [one for one in done if one.good and began + margin <= one.ended < end]
        return len(inside) / (end - began - margin)

    async def flood(self, rate: float, seconds: float) -> tuple[list[Heard], float]:
        """What became of `rate` requests a second, and when the first was asked."""
        times = poisson(rate, seconds, next(self._seed))
        began = time.monotonic()
        async with self._watched():
            heard = await flood(self.port, lambda n: self._requests[n % 64], times, self._say)
        self.late += [one.late for one in heard]
        return heard, began

    async def seconds_to_normal(self, usual: float) -> float:
        """How long after now an answer begins as soon as it did before (1.5 times that at most)."""
        began = time.monotonic()
        while True:
            told = await ask(self.port, self._requests[0])
            if told.good and told.first - told.asked <= 1.5 * usual + 0.02:
                return time.monotonic() - began
            if time.monotonic() - began > 60:
                return 60.0
            await asyncio.sleep(0.05)


async def measure(effort: Effort, say: Callable[[str], object]) -> Result:
    """Peak, 0.9 of it, twice it, calm, ten times it, peak again."""
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as data:
        settings = {
            "FEWSHOT_DATA_DIR": data,
            "FEWSHOT_EMBEDDER": "hash",
            "FEWSHOT_SERVER_RUNNING": str(RUNNING),
            "FEWSHOT_SERVER_QUEUE": str(QUEUE),
            "FEWSHOT_ENGINE_ECHO_REPLY": "Nothing is lost. ",
            "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": str(TOKEN_SECONDS),
        }
        with fewshot_server(settings, "--echo") as (pid, port):
            load = Load(pid, port, say)
            await load.peak(3)  # warm
            before = await load.peak(effort.peak_seconds)
            say(f"peak: {before:.1f} answers a second")
            near, _ = await load.flood(0.9 * before, effort.peak_seconds)
            usual = float(np.median([one.first - one.asked for one in near if one.good]))
            memory = memory_mb(pid)
            heavy, began = await load.flood(2 * before, effort.overload_seconds)
            normal = await load.seconds_to_normal(usual)
            burst, _ = await load.flood(10 * before, effort.burst_seconds)
            after_burst = await load.seconds_to_normal(usual)
            grown = memory_mb(pid) - memory
            after = await load.peak(effort.peak_seconds)
    peak = (before + after) / 2
    # The first seconds fill the queue; after the last arrival the load is no longer twice the peak.
    settled = began + WINDOW_SECONDS, began + effort.overload_seconds
    rates = [
        sum(one.good for one in window) / WINDOW_SECONDS
        for window in windows(heavy, WINDOW_SECONDS, *settled)
    ]
    everything = [*near, *heavy, *burst]
    refused = [one.seconds * 1e3 for one in heavy if one.status == 429]
    broken = [one for one in everything if one.status >= 500]
    lost = [one for one in everything if one.status == NO_ANSWER or not one.whole]
    ratio = estimate([rate / peak for rate in rates])
    return Result(
        goal="overload",
        title="L1: twice the load the engine can serve",
        workload=(
            f"Streams of {TOKENS} tokens from an echo at {TOKEN_SECONDS * 1e3:g} ms a token, {RUNNING} at "
            f"once, {QUEUE} waiting; Poisson arrivals for {effort.overload_seconds:g} s"
        ),
        bars=[
            Bar(
                name="goodput ÷ peak at twice the peak's load",
                measured=ratio,
                sense="at least",
                must=MUST_GOODPUT,
                moon=MOON_GOODPUT,
            ),
            Bar(name="refused within, p99", measured=p99(refused), unit="ms", must=MUST_REFUSED_MS),
            Bar(name="refused within in the burst, p99", measured=p99(_refusals(burst)), unit="ms"),
            Bar(name="responses ≥ 500", measured=_exactly(len(broken)), must=0),
            Bar(name="no answer, or half of one", measured=_exactly(len(lost)), must=0),
            Bar(name="memory grown by", measured=_exactly(grown), unit="MB", must=MUST_GROWTH_MB),
            Bar(
                name="normal again after the overload",
                measured=_exactly(normal),
                unit="s",
                must=MUST_NORMAL_SECONDS,
            ),
            Bar(
                name="normal again after the burst",
                measured=_exactly(after_burst),
                unit="s",
                must=MUST_NORMAL_SECONDS,
            ),
        ],
        ratio=ratio,
        noise_floor=abs(after / before - 1),
        rounds={"goodput": rates, "peak": [before, after]},
        arms={
            "peak": {"answers_per_second": peak},
            "0.9 of the peak": _told(near),
            "twice the peak": _told(heavy),
            "ten times the peak": _told(burst),
        },
        checks=[
            Check("what is not served is refused: 200 and 429 only", _statuses(everything) <= {200, 429}),
            Check(
                "requests were asked when they were due",
                float(np.quantile(load.late, 0.99)) <= LATEST_SECONDS,
                f"p99 {float(np.quantile(load.late, 0.99)) * 1e3:.0f} ms late",
            ),
            below_its_core(load.client_share),
        ],
        machine=watch.describe(),
        plot=Plot(
            x="seconds of overload",
            y="answers a second",
            curves=[
                Curve(
                    name="goodput",
                    x=[WINDOW_SECONDS * (number + 2) for number in range(len(rates))],
                    y=[_exactly(rate) for rate in rates],
                )
            ],
            limit=MUST_GOODPUT * peak,
        ),
        notes=("The first 5 s of the overload, in which the queue fills, are left out of the goodput.",),
    )


def p99(values: Sequence[float]) -> Interval:
    """The 99th percentile with the 95 % bootstrap interval of it."""
    if not values:
        return Interval(0.0, 0.0, 0.0)
    known = np.asarray(values)
    draw = np.random.default_rng(11)
    drawn = [np.quantile(draw.choice(known, len(known)), 0.99) for _ in range(300)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(np.quantile(known, 0.99)), float(low), float(high))


def _refusals(heard: Sequence[Heard]) -> list[float]:
    return [one.seconds * 1e3 for one in heard if one.status == 429]


def _statuses(heard: Sequence[Heard]) -> set[int]:
    return {one.status for one in heard}


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


def _told(heard: Sequence[Heard]) -> dict[str, object]:
    firsts = [one.first - one.asked for one in heard if one.good] or [0.0]
    return {
        "statuses": {
            str(status): count for status, count in sorted(Counter(o.status for o in heard).items())
        },
        "ttft_p50_ms": float(np.median(firsts)) * 1e3,
        "ttft_p99_ms": float(np.quantile(firsts, 0.99)) * 1e3,
    }


@click.command()
@goal_options
def command(quick: bool, out: Path, anyway: bool) -> None:
    """Goodput, refusals and failures at twice the load that the engine can serve (L1)."""
    effort = QUICK if quick else FULL
    measured(lambda say: measure(effort, say), out=out, anyway=anyway)
