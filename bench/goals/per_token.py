"""G3: what one streamed token costs the processor in front of the engine (arm A0e, workload W3).

The engine is an echo, so whatever the server's process spends is the front end's: HTTP, admission, journal,
metrics, frames, sockets. Three paces:

at once   every token is ready, and each is a piece of its own: what an event costs without any waiting
gathered  an engine that no front end keeps up with: what was not fetched in time comes as one piece
paced     one token of each stream every 10 ms, as from a real engine; under load we fetch several at a time

The time to the first token is told beside it: without an engine to wait for, it is the front end's own.
Beside the server, the same echo is drained in a bare loop, as fast as its tokens come: what the null engine
itself costs. The bar is on what the server's process takes beyond that (docs/decisions/0212). And vLLM's own
front end streams the same answers from a null engine (`bench/vllm_front.py`), for the same client.
"""

import asyncio
import itertools
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.checks import below_its_core
from bench.client import Told, chat, closed_loop, connected
from bench.command import goal_options, measured
from bench.machine import Watch, on_gpu_machine
from bench.null_engine import drained
from bench.processor import seconds
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, Sample, difference, estimate, floor, interleave, level, noise, ratio
from bench.servers import Served, echo_server
from bench.vllm_front import vllm_front

# Two-, three- and four-byte characters among them, as in real answers.
REPLY = "Grüße aus Zürich: 東京 is a city, 🌍 is a planet, and the quick brown fox is neither. "
PACE_SECONDS = 0.01
MOST_US, MOON_US = 5.0, 1.5  # a token
FIRST_TOKENS = 40  # requests
TIMES = 1.5  # cheaper than vLLM's own front end
VLLM = "vLLM's front end"
ECHO, RESTING_ECHO = "echo alone", "echo alone, with the server's rests"
PACES = {"at once": 0.0, "gathered": 1e-6, "paced": PACE_SECONDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    streams: int
    tokens: int  # of each answer
    rounds: int
    curve: tuple[int, ...]  # numbers of streams of the plot


QUICK = Effort(streams=32, tokens=256, rounds=3, curve=(1, 8))
FULL = Effort(streams=64, tokens=512, rounds=7, curve=(1, 8, 256))


class Load:
    """Streams against one server; remembers what all of them had to say."""

    def __init__(self, served: Served, tokens: int) -> None:
        self.served = served
        self.tokens = tokens
        self.wrong: list[str] = []
        self.client_share = 0.0  # largest seen
        self.events = 0
        self.told = 0

    async def sample(self, streams: int) -> float:
        """Server processor µs a token while `streams` streams are answered."""
        request = chat(self.served.model, "What is where?", self.tokens)
        async with connected(self.served.port, streams) as connections:
            clock, own, theirs = time.monotonic(), time.process_time(), seconds(self.served.pid)
            told = await closed_loop(connections, itertools.repeat(request, streams))
            theirs = seconds(self.served.pid) - theirs
            share = (time.process_time() - own) / (time.monotonic() - clock)
        self.client_share = max(self.client_share, share)
        self._check(told)
        return theirs / (streams * self.tokens) * 1e6

    async def first_token(self, requests: int) -> Interval:
        """Milliseconds to the first token, one request at a time on one connection, nothing else to do."""
        request = chat(self.served.model, "What is where?", 2)
        async with connected(self.served.port, 1) as connections:
            told = await closed_loop(connections, itertools.repeat(request, requests))
        return estimate([answer.ttft * 1e3 for answer in told])

    def _check(self, told: Sequence[Told]) -> None:
        for answer in told:
            self.told += 1
            if not answer.ok:
                self.wrong.append(answer.body[:200].decode(errors="replace"))
                continue
            counted = answer.usage()["completion_tokens"]
            wanted = (REPLY * (self.tokens // len(REPLY) + 1))[: self.tokens]
            if counted != self.tokens or answer.text() != wanted:
                self.wrong.append(f"{counted} tokens, {len(answer.text())} characters")
            self.events += answer.body.count(b"data: ")


async def measure(effort: Effort, against: Path | None, rival: bool, say: Callable[[str], object]) -> Result:
    """Both paces, every arm, and the curve over the number of streams."""
    watch = Watch()
    bars: list[Bar] = []
    arms: dict[str, dict[str, Any]] = {}
    everything: dict[str, Any] = {}
    curves: list[Curve] = []
    loads: list[Load] = []
    floors: list[float] = []
    changes: dict[str, Interval] = {}
    for pace, interval_seconds in PACES.items():
        with ExitStack() as stack:
            options: dict[str, Any] = {
                "reply": REPLY,
                "interval_seconds": interval_seconds,
                "running": max(*effort.curve, effort.streams),
            }
            load = Load(stack.enter_context(echo_server(**options)), effort.tokens)
            loads.append(load)
            alone = partial(drained, REPLY, effort.streams, effort.tokens, interval_seconds)
            samples: dict[str, Sample] = {
                ECHO: alone,
                "A0e": partial(load.sample, effort.streams),
            }
            if pace == "paced":
                samples[RESTING_ECHO] = partial(alone, resting=True)
            if rival:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fewshot-bench-")))
                theirs = Load(stack.enter_context(vllm_front(REPLY, interval_seconds, folder)), effort.tokens)
                loads.append(theirs)
                samples[VLLM] = partial(theirs.sample, effort.streams)
            if against is not None:
                before = Load(stack.enter_context(echo_server(**options, checkout=against)), effort.tokens)
                loads.append(before)
                samples["before"] = partial(before.sample, effort.streams)
            say(f"{pace}: warming up")
            for sample in samples.values():
                await sample()
            rounds = await interleave(samples, effort.rounds, say)
            events_per_token = load.events / max(load.told * effort.tokens, 1)
            first = await load.first_token(FIRST_TOKENS)
            points = {effort.streams: level(rounds, "A0e")}
            for streams in effort.curve:
                repeated = [await load.sample(streams) for _ in range(2 * max(16 // streams, 1))]
                points[streams] = _spread(repeated)
        cost = level(rounds, "A0e")
        on_bar = pace == "paced" and on_gpu_machine()
        if not interval_seconds:
            bars.append(Bar(name="time to first token, null engine, one stream", measured=first, unit="ms"))
        bars.append(
            Bar(
                name=f"front-end CPU per streamed token, {pace}",
                measured=cost,
                unit="µs",
                must=MOST_US if on_bar else None,
                moon=MOON_US if on_bar else None,
            )
        )
        bars.append(
            Bar(
                name=f"the same beyond the null engine, {pace}",
                measured=difference(rounds, "A0e", ECHO),
                unit="µs",
                must=MOST_US,
                moon=MOON_US,
            )
        )
        if pace == "paced":
            bars.append(
                Bar(
                    name=f"the same beyond {RESTING_ECHO}, {pace}",
                    measured=difference(rounds, "A0e", RESTING_ECHO),
                    unit="µs",
                )
            )
        if rival:
            bars.append(
                Bar(
                    name=f"vLLM's front end ÷ A0e, {pace}",
                    measured=ratio(rounds, VLLM, "A0e"),
                    sense="at least",
                    # Gathered, what is left is whole requests, and of those vLLM's arm has only a part.
                    must=TIMES if pace != "gathered" else None,
                    resolution=floor(rounds, "A0e", VLLM),
                )
            )
        if against is not None:
            changes[pace] = ratio(rounds, "A0e", "before")
            noisy = floor(rounds, "A0e", "before")
            bars.append(
                Bar(
                    name=f"A0e ÷ {against.name}, {pace}",
                    measured=changes[pace],
                    must=1 + noisy,
                )
            )
        floors.append(floor(rounds, "A0e"))
        everything[pace] = rounds
        curves.append(Curve(name=pace, x=sorted(points), y=[points[at] for at in sorted(points)]))
        for name in samples:
            arms[f"{name}, {pace}"] = {
                "cpu_us_per_token": level(rounds, name),
                "noise": noise(rounds, name),
                "config": {
                    "streams": effort.streams,
                    "output_tokens": effort.tokens,
                    "interval_seconds": interval_seconds,
                    "journal": True,
                    "metrics": True,
                    "auth": False,
                },
            }
        arms[f"A0e, {pace}"]["events_per_token"] = events_per_token
        arms[f"A0e, {pace}"]["echo_alone_share"] = ratio(rounds, ECHO, "A0e")
    wrong = [line for load in loads for line in load.wrong]
    return Result(
        goal="per_token",
        title="G3: front-end CPU per streamed token, null engine",
        workload=(
            f"W3: a short prompt, {effort.tokens} tokens out, {effort.streams} streams at once; "
            f"{effort.rounds} rounds"
        ),
        bars=bars,
        ratio=changes.get("paced"),
        noise_floor=max(floors),
        rounds=everything,
        arms=arms,
        checks=[
            Check("every answer is whole: 200, all tokens, the exact text", not wrong, "; ".join(wrong[:3])),
            below_its_core(max(load.client_share for load in loads)),
        ],
        machine=watch.describe(),
        plot=Plot(x="streams at once", y="µs of CPU a token", curves=curves, limit=MOST_US),
        notes=(
            f"The bar of {MOST_US:g} µs (moon {MOON_US:g}) is on what the server's process takes beyond the "
            "null engine; on the whole of it, paced, it is set for a GPU machine, and reported on any other.",
            "Both front ends are given the same by the null engine: one token a piece (at once), or, by the "
            "clock, what nobody fetched in time as one piece, as vLLM's output collector does. Ours fetches "
            "at most every 20 ms under load (server.coalesce_seconds), vLLM's as soon as there is a token.",
            "The echo and its timers run inside the server and are part of the figure. What they cost where "
            f"every token is taken as it comes is the arm `{ECHO}`. A server that rests is woken by fewer "
            f"timers than that: `{RESTING_ECHO}` has as many as it, and is the least that may be deducted.",
        ),
    )


def _spread(values: Sequence[float]) -> Interval:
    ordered = sorted(values)
    return Interval(ordered[len(ordered) // 2], ordered[0], ordered[-1])


async def profiled(effort: Effort, into: Path) -> None:
    """One run of each pace under cProfile; the most expensive functions, by their own time, as text."""
    for pace, interval_seconds in PACES.items():
        raw = into / "per_token.pstats"
        with echo_server(
            reply=REPLY, interval_seconds=interval_seconds, running=effort.streams, profile=raw
        ) as served:
            load = Load(served, effort.tokens)
            for _ in range(3):
                await load.sample(effort.streams)
        with (into / f"per_token-{pace.replace(' ', '-')}.profile.txt").open("w") as text:
            statistics = pstats.Stats(str(raw), stream=text)
            statistics.sort_stats("tottime").print_stats(40)
        raw.unlink()


@click.command()
@goal_options
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another working tree of Fewshot: measure its server in the same rounds; dearer is a miss.",
)
@click.option("--vllm/--no-vllm", "rival", default=True, help="Whether vLLM's own front end is an arm.")
@click.option("--profile", is_flag=True, help="Write cProfile's view of the server instead of measuring.")
def command(quick: bool, out: Path, anyway: bool, against: Path | None, rival: bool, profile: bool) -> None:
    """Front-end CPU per streamed token with the null engine (G3)."""
    effort = QUICK if quick else FULL
    if profile:
        out.mkdir(parents=True, exist_ok=True)
        asyncio.run(profiled(effort, out))
        return
    measured(lambda say: measure(effort, against, rival, say), out=out, anyway=anyway)
