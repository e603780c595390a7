"""G5: requests a second inside limits of latency, the whole product against the bare engine (workload W2).

Requests come at random times, whether or not the ones before are answered. A5 is one request that names a
store; A6 gives the same engine the very token ids that A5 made of them, at the same times, in one process.
A request is good when its first token comes within twice what it takes without company, and the others within
50 ms each on average.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bench.client import closed_loop, connected
from bench.crowd import Crowd
from bench.gpu.bare import bare
from bench.host import Host
from bench.library import questions
from bench.machine import Watch, on_gpu_machine
from bench.open_loop import closing, flood, poisson
from bench.rag_requests import grounded
from bench.records import Bar, Check, NotMeasured, Result, by_round
from bench.rounds import Sample, estimate, floor, interleave, level, noise, ratio
from server.records import Limits

TPOT_SECONDS = 0.05
TIMES_UNLOADED = 2.0
BARS = {"goodput": (0.93, 0.98), "full": (0.88, 0.93)}  # must, moon


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    seconds: float  # of arrivals, at each share
    shares: tuple[float, ...]  # of the bare engine's requests a second when it is full
    tokens: int  # out
    requests: int  # that fill the engine
    streams: int  # at once, then
    passages: int


QUICK = Effort(
    rounds=1, seconds=4.0, shares=(0.5,), tokens=8, requests=8, streams=4, passages=2_000
)  # fmt: skip
FULL = Effort(
    rounds=2, seconds=10.0, shares=(0.7, 0.9), tokens=128, requests=256, streams=128, passages=100_000
)  # fmt: skip


class Spread:
    """How long first tokens took, by arm, share and part of the way, over all samples."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, float, str], list[float]] = {}

    def add(self, arm: str, share: float, part: str, seconds: Iterable[float]) -> None:
        self._seconds.setdefault((arm, share, part), []).extend(seconds)

    def of(self, arm: str) -> dict[str, float]:
        """Medians and 90 % of an arm, in milliseconds."""
        return {
            f"{part}_ms_p{of_all}_at_{share:.0%}": 1e3 * float(np.quantile(seconds, of_all / 100))
            for (name, share, part), seconds in sorted(self._seconds.items())
            if name == arm
            for of_all in (50, 90)
        }


class Answered(NamedTuple):
    """Seconds since a request was due."""

    first: float
    ended: float

    def good(self, limit: float, tokens: int) -> bool:
        paced = (self.ended - self.first) / max(tokens - 1, 1)
        return 0 < self.first <= limit and paced <= TPOT_SECONDS


async def forget_prefixes(decoder: Any) -> None:
    """The prefix cache is empty afterwards."""
    await decoder.engine.reset_prefix_cache()


async def arriving(
    decoder: Any, *, prompts: Sequence[tuple[int, ...]], times: Sequence[float], tokens: int
) -> list[Answered]:
    """A6: each prompt to the engine when it is due."""
    from server.vllm_decoder.sampling import sampling_params

    limits = Limits(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    began = time.monotonic()

    async def one(number: int, prompt: tuple[int, ...], due: float) -> Answered:
        first = 0.0
        inputs = {"prompt_token_ids": list(prompt), "cache_salt": "bare"}
        name = f"arriving-{time.monotonic_ns()}-{number}"
        async for _ in decoder.engine.generate(inputs, sampling_params(limits), name):
            first = first or time.monotonic() - due
        return Answered(first, time.monotonic() - due)

    tasks = []
    for number, (prompt, at) in enumerate(zip(prompts, times, strict=False)):
        if (wait := began + at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, prompt, began + at)))
    return list(await asyncio.gather(*tasks))


class Arms:
    """A5 and A6 at the same arrival times."""

    def __init__(self, host: Host, clients: Crowd, effort: Effort) -> None:
        self._host = host
        self._clients = clients
        self._effort = effort
        self._asked = {"A5": 0, "A6": 0}
        self._prompts: dict[int, list[tuple[int, ...]]] = {}  # of each sample of A5
        self.limit = self.full_rate = 0.0
        self.spread = Spread()
        self.problems: list[str] = []

    def samples(self) -> dict[str, Sample]:
        return {"A5": self.product, "A6": self.oracle}

    async def calibrate(self) -> tuple[float, float]:
        """What the limits and the rates follow from; requests a second of a full engine, A5 and A6."""
        effort = self._effort
        await self._fresh()
        alone = await self._closed(self._requests(900, 8), 1)
        self.limit = TIMES_UNLOADED * float(np.median([answer.ttft for answer in alone[1:]]))
        await self._fresh()
        requests = self._requests(901, effort.requests)
        sent = await self._clients.send(self._host.up.port, requests, effort.streams)
        self.problems += [answer.problem for answer in sent.answers if answer.problem]
        prompts = [prompt for prompt in (await self._host.engine_prompts()).values()]
        await self._fresh()
        _, spent = await bare(
            self._host, prompts, tokens=[effort.tokens] * len(prompts), concurrency=effort.streams
        )
        self.full_rate = len(prompts) / spent
        return len(requests) / sent.seconds, self.full_rate

    async def product(self) -> float:
        """Good requests a second, at the best of the shares."""
        self._asked["A5"] += 1
        seed = self._asked["A5"]
        best = 0.0
        for at, share in enumerate(self._effort.shares):
            await self._fresh()
            times = self._times(share)
            requests = [closing(request) for request in self._requests(1000 * seed + at, len(times))]
            heard = await flood(self._host.up.port, requests.__getitem__, times, lambda _: None)
            self.problems += [f"status {one.status}" for one in heard if not one.good]
            self._prompts[at] = list((await self._host.engine_prompts()).values())
            answered = [
                Answered(one.first - one.asked + one.late, one.ended - one.asked + one.late) for one in heard
            ]
            best = max(best, self._rate(answered))
            self.spread.add("A5", share, "first_token", (answer.first for answer in answered))
            in_engine = await self._host.engine_times()
            self.spread.add("A5", share, "of_it_in_the_engine", (one.ttft for one in in_engine.values()))
        return best

    async def oracle(self) -> float:
        """The same of the ids that the last sample of A5 left."""
        best = 0.0
        for at, share in enumerate(self._effort.shares):
            await self._fresh()
            work = partial(
                arriving, prompts=self._prompts[at], times=self._times(share), tokens=self._effort.tokens
            )
            answered = await self._host.call(work)
            best = max(best, self._rate(answered))
            self.spread.add("A6", share, "first_token", (answer.first for answer in answered))
        return best

    def _rate(self, answered: Sequence[Answered]) -> float:
        good = sum(one.good(self.limit, self._effort.tokens) for one in answered)
        return good / self._effort.seconds

    def _times(self, share: float) -> list[float]:
        return poisson(share * self.full_rate, self._effort.seconds, seed=int(100 * share))

    def _requests(self, seed: int, count: int) -> list[bytes]:
        asked = questions(self._effort.passages, count, seed)
        return [grounded(self._host.up.profile.name, text, self._effort.tokens) for text in asked]

    async def _fresh(self) -> None:
        """Both arms begin with the fixed part in the cache and nothing else."""
        await self._host.call(forget_prefixes)
        await self._closed(self._requests(902, 1), 1)
        await self._host.engine_prompts()
        await self._host.engine_times()

    async def _closed(self, requests: Sequence[bytes], streams: int) -> list[Any]:
        async with connected(self._host.up.port, streams) as connections:
            told = await closed_loop(connections, requests)
        self.problems += [answer.body[-200:].decode(errors="replace") for answer in told if not answer.ok]
        return told


async def measure(
    host: Host, clients: Crowd, shape: str, effort: Effort, say: Callable[[str], object]
) -> Result:
    """The store `library` of `effort.passages` must be there."""
    watch = Watch()
    arms = Arms(host, clients, effort)
    say("goodput: limits and rates")
    served_full, bare_full = await arms.calibrate()
    say(f"goodput: first token within {1e3 * arms.limit:.0f} ms, full at {bare_full:.1f} requests a second")
    rounds = await interleave(arms.samples(), effort.rounds, say)
    if not all(value for pairs in rounds.values() for pair in pairs for value in pair):
        raise NotMeasured(f"a sample had no good request: {rounds}")
    found = ratio(rounds, "A5", "A6")
    on_gpu = on_gpu_machine()
    good, full = (BARS[name] if on_gpu else (None, None) for name in ("goodput", "full"))
    profile = host.up.profile
    return Result(
        goal="goodput",
        title="G5: requests a second inside limits of latency, the product against the bare engine",
        workload=(
            f"W2 over {effort.passages:,} passages, {effort.tokens} tokens out, Poisson arrivals at "
            f"{', '.join(f'{share:.0%}' for share in effort.shares)} of {bare_full:.1f} requests a second, "
            f"{effort.seconds:g} s each; first token within {1e3 * arms.limit:.0f} ms, others within 50 ms; "
            f"shape {shape} ({profile.dtype}) on {profile.engine} {profile.engine_version}, {profile.device}"
        ),
        bars=[
            Bar(
                name="good requests a second, A5 ÷ A6",
                measured=found,
                sense="at least",
                must=good[0],
                moon=good[1],
                resolution=floor(rounds, "A6"),
            ),
            Bar(
                name="requests a second of a full engine, A5 ÷ bare",
                measured=estimate([served_full / bare_full]),
                sense="at least",
                must=full[0],
                moon=full[1],
            ),
        ],
        ratio=found,
        noise_floor=floor(rounds, "A6"),
        rounds=rounds,
        arms={
            name: {
                "good_requests_per_second": level(rounds, name),
                "noise": noise(rounds, name),
                **arms.spread.of(name),
            }
            for name in rounds
        },
        checks=[Check("every answer is whole", not arms.problems, "; ".join(arms.problems[:2]))],
        machine={**watch.describe(), "engine": host.up.settings["engine"]},
        plot=by_round(rounds, "good requests a second"),
        notes=("A sample is the best of the shares; A6 replays the ids that A5 made last.",),
    )
