"""G2: tokens a second of a full engine, through our server against the bare engine (workload W3).

On a plateau (bench/plateau.py): what beginning with all streams at once costs is another question, G1's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.checks import SameWork
from bench.client import chat
from bench.clocked import Decoded
from bench.crowd import Answer, Crowd
from bench.gpu.bare import ABOUT, bare
from bench.host import Host
from bench.machine import Watch, on_gpu_machine
from bench.plateau import lengths, rate
from bench.processor import seconds
from bench.records import Bar, Result, by_round
from bench.rounds import estimate, floor, how_many, interleave, level, noise, ratio

PROMPT_TOKENS = 48  # W3 has 32, of which a chat template leaves too few words for prompts of their own
BARS = {"8b": (0.97, 0.99), "1b": (0.85, 0.95)}  # of the shape: must, moon


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    tokens: int  # out
    streams: int
    requests: int = 0  # a sample; 0: as many as streams
    waves: int = 1  # times the streams, beginning spread; 1: all at once, and no plateau

    @property
    def lengths(self) -> list[int]:
        """Tokens of each answer of a sample."""
        if self.waves > 1:
            return lengths(self.streams, self.waves, self.tokens)
        return [self.tokens] * (self.requests or self.streams)


QUICK = Effort(rounds=2, tokens=64, streams=32, waves=3)
FULL = Effort(rounds=5, tokens=512, streams=256, waves=3)  # a minute and more of plateau each arm
FULL_1B = Effort(rounds=5, tokens=512, streams=512, waves=3)


class Arms:
    """A1 and A4 of one engine."""

    def __init__(self, host: Host, clients: Crowd, effort: Effort) -> None:
        self._host = host
        self._clients = clients
        self._effort = effort
        self._asked = {"A1": 0, "A4": 0}
        self.work = SameWork(effort.tokens)
        self.client_share = 0.0
        self.cpu_us_per_token: dict[str, list[float]] = {"A1": [], "A4": []}
        self.plateau_seconds: dict[str, float] = {"A1": 0.0, "A4": 0.0}

    async def bare(self) -> float:
        """Tokens a second."""
        prompts = await self._prompts("A1")
        cpu = seconds(self._host.up.pid)
        answers, spent = await bare(
            self._host,
            [prompt.ids for prompt in prompts],
            tokens=self._effort.lengths,
            concurrency=self._effort.streams,
        )
        self._spent("A1", cpu, answers)
        self.work.bare(answers, self._effort.lengths)
        return self._rate("A1", answers, spent)

    async def served(self) -> float:
        """Tokens a second."""
        prompts = await self._prompts("A4")
        name, each = self._host.up.profile.name, self._effort.lengths
        requests = [chat(name, prompt.text, tokens) for prompt, tokens in zip(prompts, each, strict=True)]
        cpu = seconds(self._host.up.pid)
        sent = await self._clients.send(self._host.up.port, requests, self._effort.streams)
        self._spent("A4", cpu, sent.answers)
        self.client_share = max(self.client_share, sent.client_share)
        self.work.answered(sent.answers, prompts, lengths=each)
        return self._rate("A4", sent.answers, sent.seconds)

    def _rate(self, arm: str, answers: Sequence[Decoded | Answer], spent: float) -> float:
        if self._effort.waves == 1:
            return sum(answer.tokens for answer in answers) / spent
        found, seconds = rate(answers, self._effort.streams)
        self.plateau_seconds[arm] += seconds
        return found

    def _spent(self, arm: str, since: float, answers: Sequence[Decoded | Answer]) -> None:
        tokens = sum(answer.tokens for answer in answers)
        spent = seconds(self._host.up.pid) - since
        self.cpu_us_per_token[arm].append(spent / max(tokens, 1) * 1e6)

    async def _prompts(self, arm: str) -> list[Any]:
        """The n-th sample of one arm asks what the n-th of the other asks."""
        self._asked[arm] += 1
        count = len(self._effort.lengths)
        drawn = {"seed": 70_000 + self._asked[arm], "count": count, "tokens": PROMPT_TOKENS}
        prompts = await self._host.draw(**drawn)
        if arm == "A4":
            self.work.fresh(prompts)
        return prompts


async def measure(
    host: Host, clients: Crowd, shape: str, effort: Effort, say: Callable[[str], object]
) -> Result:
    watch = Watch()
    arms = Arms(host, clients, effort)
    samples = {"A1": arms.bare, "A4": arms.served}
    say("saturation: warming up")
    await interleave(samples, 1)
    for warm in arms.cpu_us_per_token.values():
        warm.clear()
    arms.plateau_seconds = dict.fromkeys(samples, 0.0)
    rounds = await interleave(samples, effort.rounds, say)
    served = ratio(rounds, "A4", "A1")
    must, moon = BARS.get(shape, (None, None)) if on_gpu_machine() else (None, None)
    levels = {name: level(rounds, name) for name in samples}
    profile = host.up.profile
    return Result(
        goal="saturation",
        title="G2: tokens a second of a full engine, our server against the bare engine",
        workload=(
            f"W3: {PROMPT_TOKENS} tokens in, {effort.tokens} out, {effort.streams} streams, shape {shape} "
            f"({profile.dtype}) on {profile.engine} {profile.engine_version}, {profile.device}; "
            f"{how_many(rounds)}; journal and metrics on, auth off"
        ),
        bars=[
            Bar(
                name=f"tokens a second, A4 ÷ A1, {effort.streams} streams",
                measured=served,
                sense="at least",
                must=must,
                moon=moon,
                resolution=floor(rounds, "A1"),
            )
        ],
        ratio=served,
        noise_floor=floor(rounds, "A1"),
        rounds=rounds,
        arms={
            "A1": {
                "tokens_per_second": levels["A1"],
                "noise": noise(rounds, "A1"),
                "server_cpu_us_per_token": estimate(arms.cpu_us_per_token["A1"]),
            },
            "A4": {
                "tokens_per_second": levels["A4"],
                "noise": noise(rounds, "A4"),
                "server_cpu_us_per_token": estimate(arms.cpu_us_per_token["A4"]),
                "client_share": arms.client_share,
            },
        },
        checks=arms.work.checks(arms.client_share),
        machine={**watch.describe(), "engine": host.up.settings["engine"]},
        plot=by_round(rounds, "tokens a second"),
        notes=(
            f"{ABOUT}; the server idles meanwhile.",
            f"Rates are those of plateaus, {arms.plateau_seconds['A1']:.0f} and "
            f"{arms.plateau_seconds['A4']:.0f} seconds of them: the first answers end at different times, "
            "then whoever is answered asks again.",
            "The processor time a token includes vLLM's own share of the server's process.",
        ),
    )
