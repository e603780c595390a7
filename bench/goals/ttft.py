"""G1: what our server adds to the time to first token of the engine it runs on (workload W1).

Two measures, of the same requests:

A4 ÷ A1   the product's client against the bare decoder, same ids, in interleaved rounds
inside    within each served request, the client's time less the time the decoder had it: what is left is
          ours, however long the engine took; on a busy machine the engine's own noise drowns the first
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.checks import SameWork
from bench.client import Told, chat, closed_loop, connected
from bench.clocked import Decoded
from bench.command import goal_options, measured
from bench.host import Host, host
from bench.machine import Watch, on_gpu_machine
from bench.processor import seconds
from bench.records import Bar, Curve, Plot, Result
from bench.rounds import Interval, Rounds, Sample, estimate, floor, how_many, interleave, level, noise, ratio
from server.settings import Settings, load_settings

PROMPT_TOKENS = 256  # W1
CPU_SHARE = 0.02
CPU_SHARE_MOON = 0.01
GPU_BARS = {"p50": (1.0, 0.4), "p99": (3.0, 1.0)}  # ms: must, moon


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    requests: int  # a sample, at least
    tokens: int  # out; the first is what counts, the rest keeps the streams overlapping
    concurrency: tuple[int, ...]


QUICK = Effort(rounds=3, requests=3, tokens=4, concurrency=(1, 4))
FULL = Effort(rounds=8, requests=4, tokens=16, concurrency=(1, 4))


class Arms:
    """A1 and A4 on one engine, at one concurrency."""

    def __init__(self, host: Host, effort: Effort, concurrency: int) -> None:
        self._host = host
        self._effort = effort
        self._concurrency = concurrency
        self._count = max(effort.requests, 2 * concurrency)
        self._seeds = {"A1": 0, "A4": 0}
        self.work = SameWork(effort.tokens)
        self.ttft: dict[str, list[float]] = {"A1": [], "A4": []}
        self.added: list[list[float]] = []  # seconds inside each served request, a list a sample
        self.client_share = 0.0
        self.cpu_us_per_token: list[float] = []

    @property
    def samples(self) -> dict[str, Sample]:
        return {"A1": self.bare, "A4": self.served}

    def forget(self) -> None:
        """What the warm-up measured; what it checked stays."""
        self.ttft, self.added, self.cpu_us_per_token = {"A1": [], "A4": []}, [], []

    async def bare(self) -> float:
        """Median TTFT in seconds of one sample of A1."""
        prompts = await self._prompts("A1")
        decoded = await self._host.decode(
            [prompt.ids for prompt in prompts], tokens=self._effort.tokens, concurrency=self._concurrency
        )
        self.work.bare(decoded)
        return self._median("A1", [answer.ttft for answer in decoded])

    async def served(self) -> float:
        """Median TTFT in seconds of one sample of A4."""
        prompts = await self._prompts("A4")
        requests = [chat(self._host.up.profile.name, prompt.text, self._effort.tokens) for prompt in prompts]
        async with connected(self._host.up.port, self._concurrency) as connections:
            clock, own, theirs = time.monotonic(), time.process_time(), seconds(self._host.up.pid)
            told = await closed_loop(connections, requests)
            theirs = seconds(self._host.up.pid) - theirs
            share = (time.process_time() - own) / (time.monotonic() - clock)
        self.client_share = max(self.client_share, share)
        self.cpu_us_per_token.append(theirs / (len(told) * self._effort.tokens) * 1e6)
        self.work.served(told, prompts)
        engine = await self._host.engine_times()
        self.added.append([_added(answer, engine) for answer in told if answer.ok])
        return self._median("A4", [answer.ttft for answer in told if answer.ok])

    async def _prompts(self, arm: str) -> list[Any]:
        """The arm's next prompts: the n-th sample of one arm asks what the n-th of the other asks."""
        seed = 1000 * self._concurrency + self._seeds[arm]
        self._seeds[arm] += 1
        prompts = await self._host.draw(seed=seed, count=self._count, tokens=PROMPT_TOKENS)
        if arm == "A4":
            self.work.fresh(prompts)
        return prompts

    def _median(self, arm: str, ttft: Sequence[float]) -> float:
        self.ttft[arm] += ttft
        return float(np.median(ttft))


def _added(answer: Told, engine: dict[str, Decoded]) -> float:
    return answer.ttft - engine[answer.events()[0]["id"]].ttft


async def measure(effort: Effort, settings: Settings, say: Callable[[str], object]) -> Result:
    """Every concurrency on one engine of its own; the bars of the machine it runs on."""
    watch = Watch()
    say("starting the engine")
    with host(settings) as engine:
        return await measure_on(engine, effort, watch, say)


async def measure_on(engine: Host, effort: Effort, watch: Watch, say: Callable[[str], object]) -> Result:
    """The same on an engine that is up."""
    bars: list[Bar] = []
    arms: dict[str, dict[str, Any]] = {}
    everything: dict[str, Any] = {}
    checks = []
    curves: dict[str, list[Interval]] = {"A1": [], "A4": []}
    floors, ratios = [], []
    on_gpu = on_gpu_machine()
    for concurrency in effort.concurrency:
        pair = Arms(engine, effort, concurrency)
        say(f"c {concurrency}: warming up")
        await interleave(pair.samples, 1)
        pair.forget()
        rounds = await interleave(pair.samples, effort.rounds, say)
        floors.append(floor(rounds, "A1"))
        ratios.append(ratio(rounds, "A4", "A1"))
        bars += _bars(pair, rounds, concurrency, on_gpu)
        checks += [(concurrency, check) for check in pair.work.checks(pair.client_share)]
        everything[f"c {concurrency}"] = rounds
        for name in ("A1", "A4"):
            curves[name].append(level(rounds, name).scaled(1e3))
            arms[f"{name}, c {concurrency}"] = {
                "ttft_ms": level(rounds, name).scaled(1e3),
                "p50": float(np.median(pair.ttft[name]) * 1e3),
                "p99": float(np.quantile(pair.ttft[name], 0.99) * 1e3),
                "noise": noise(rounds, name),
                "requests": len(pair.ttft[name]),
            }
        arms[f"A4, c {concurrency}"]["cpu_us_per_token"] = float(np.median(pair.cpu_us_per_token))
    profile, shown = engine.up.profile, engine.up.settings
    return Result(
        goal="ttft",
        title="G1: time to first token that the server adds to the engine",
        workload=(
            f"W1: {PROMPT_TOKENS} tokens in, {effort.tokens} out, {profile.name} ({profile.dtype}) on "
            f"{profile.engine} {profile.engine_version}; "
            f"{how_many(rounds)}; journal and metrics on, auth off"
        ),
        bars=bars,
        ratio=ratios[0],
        noise_floor=max(floors),
        rounds=everything,
        arms=arms,
        checks=[type(check)(f"c {at}: {check.name}", check.passed, check.detail) for at, check in checks],
        machine={**watch.describe(), "engine": shown["engine"]},
        plot=Plot(
            x="requests at once",
            y="TTFT, ms",
            curves=[Curve(name=name, x=effort.concurrency, y=y) for name, y in curves.items()],
        ),
        notes=(
            "W1 asks for 128 tokens out; only the first one counts here, so fewer are decoded.",
            "`inside` is the client's TTFT less the decoder's, of the same request.",
        ),
    )


def _bars(pair: Arms, rounds: Rounds, concurrency: int, on_gpu: bool) -> list[Bar]:
    medians = estimate([float(np.median(sample)) for sample in pair.added])
    share = medians.scaled(1 / float(np.median(pair.ttft["A1"])))
    slowest = [1e3 * seconds for sample in pair.added for seconds in sample]
    p99 = float(np.quantile(slowest, 0.99))
    limits = GPU_BARS if on_gpu else {"p50": (None, None), "p99": (None, None)}
    shares = (None, None) if on_gpu else (CPU_SHARE, CPU_SHARE_MOON)
    ratios = (None, None) if on_gpu else (1 + CPU_SHARE, 1 + CPU_SHARE_MOON)
    at = f"c {concurrency}"
    return [
        Bar(
            name=f"TTFT, A4 ÷ A1, {at}",
            measured=ratio(rounds, "A4", "A1"),
            must=ratios[0],
            moon=ratios[1],
            resolution=floor(rounds, "A1"),
        ),
        Bar(
            name=f"added inside a request ÷ TTFT of A1, {at}",
            measured=share,
            must=shares[0],
            moon=shares[1],
        ),
        Bar(
            name=f"added inside a request, median, {at}",
            measured=medians.scaled(1e3),
            unit="ms",
            must=limits["p50"][0],
            moon=limits["p50"][1],
        ),
        Bar(
            name=f"added inside a request, p99, {at}",
            measured=Interval(p99, p99, max(slowest)),
            unit="ms",
            must=limits["p99"][0],
            moon=limits["p99"][1],
        ),
    ]


@click.command()
@goal_options
@click.option("--model", help="Model to decode with; the default one else.")
def command(quick: bool, out: Path, anyway: bool, model: str | None) -> None:
    """TTFT of our server over the bare engine (G1)."""

    async def run(say: Callable[[str], object]) -> Result:
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as data:
            engine = {"model": model} if model else {}
            chosen = {
                "paths": {"data": data},
                "server": {"port": 0},
                "retrieval": {"embedder": "hash"},
                "engine": engine,
            }
            settings = load_settings(environ={}, overrides=chosen)
            return await measure(QUICK if quick else FULL, settings, say)

    measured(run, out=out, anyway=anyway)
