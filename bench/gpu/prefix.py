"""G6: the shared prefix is found in the cache, and what it gains (workload W2s).

The same content in two orders: the fixed part first, as the server lays prompts out, and the passages first.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from bench.checks import below_its_core
from bench.client import post
from bench.crowd import Answer, Crowd
from bench.host import Host
from bench.machine import Watch, on_gpu_machine
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, estimate, floor, how_many, interleave, level, noise, ratio
from bench.workloads import WORDS
from prompts.records import Message

QUESTION_WORDS = 30
MUST = {"cached": (0.95, 0.99), "ratio": (2.5, 4.0), "bound": (0.75, 0.9)}
OURS, OTHER = "fixed part first", "passages first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    requests: int  # a sample
    concurrency: tuple[int, ...]
    fixed: int  # words, about a token each
    passages: int
    tokens: int = 8  # out


QUICK = Effort(rounds=2, requests=4, concurrency=(1,), fixed=400, passages=100)
FULL = Effort(rounds=4, requests=16, concurrency=(1, 8), fixed=2040, passages=512)

Prompt = Sequence[Message]


async def rendered(decoder: Any, *, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    """The ids of each prompt, by the model's own template."""
    return [decoder.tokenizer.chat(prompt) for prompt in prompts]


class Arms:
    def __init__(self, host: Host, clients: Crowd, effort: Effort, concurrency: int) -> None:
        self._host = host
        self._clients = clients
        self._effort = effort
        self._concurrency = concurrency
        self._samples = {OURS: 0, OTHER: 0}
        self.wrong: list[str] = []
        self.client_share = 0.0
        self.cached: list[float] = []  # ÷ shareable, a request each of ours
        self.bounds: list[float] = []  # P / (P − S) of each sample of ours

    async def ours(self) -> float:
        return await self._sample(OURS)

    async def other(self) -> float:
        return await self._sample(OTHER)

    async def _sample(self, arm: str) -> float:
        """Median TTFT in seconds, once the fixed part has been asked with another question."""
        self._samples[arm] += 1
        prompts = self._prompts(arm, 1000 * self._concurrency + self._samples[arm])
        ids = await self._host.call(partial(rendered, prompts=prompts))
        requests = [_request(self._host.up.profile.name, prompt, self._effort.tokens) for prompt in prompts]
        await self._clients.send(self._host.up.port, requests[:1], 1)
        sent = await self._clients.send(self._host.up.port, requests[1:], self._concurrency)
        self.client_share = max(self.client_share, sent.client_share)
        self._look(arm, sent.answers, ids)
        return float(np.median([answer.ttft for answer in sent.answers]))

    def _look(self, arm: str, answers: Sequence[Answer], ids: Sequence[tuple[int, ...]]) -> None:
        block = self._host.up.profile.flags["block"]
        shared = min(_shared(one, other) for one, other in pairwise(ids))
        shareable = int(block) * (shared // int(block))
        for answer in answers:
            if answer.problem or answer.tokens != self._effort.tokens:
                self.wrong.append(answer.problem or f"{answer.tokens} tokens")
            elif arm == OURS:
                self.cached.append(answer.cached_tokens / shareable)
            elif answer.cached_tokens > shareable:
                self.wrong.append(f"{arm}: {answer.cached_tokens} cached of {shareable} shareable")
        if arm == OURS:
            length = float(np.mean([len(one) for one in ids]))
            self.bounds.append(length / (length - shareable))

    def _prompts(self, arm: str, seed: int) -> list[Prompt]:
        """One more than is timed; each sample has a fixed part of its own, each request its passages."""
        draw = random.Random(seed)
        fixed = _text(draw, self._effort.fixed)
        found: list[Prompt] = []
        for _ in range(self._effort.requests + 1):
            passages, question = _text(draw, self._effort.passages), _text(draw, QUESTION_WORDS)
            first, second = (fixed, passages) if arm == OURS else (passages, fixed)
            found.append([Message("system", first), Message("user", f"{second}\n\n{question}?")])
        return found


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Tokens that both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def _request(model: str, prompt: Prompt, tokens: int) -> bytes:
    return post(
        "/v1/chat/completions",
        {
            "model": model,
            "messages": [{"role": message.role, "content": message.text} for message in prompt],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )


async def measure(
    host: Host, clients: Crowd, shape: str, effort: Effort, say: Callable[[str], object]
) -> Result:
    watch = Watch()
    on_gpu = on_gpu_machine()
    bars, floors, arms, everything = [], [], {}, {}
    curves: dict[str, list[Interval]] = {OURS: [], OTHER: []}
    wrong: list[str] = []
    share = 0.0
    gains = []
    for concurrency in effort.concurrency:
        pair = Arms(host, clients, effort, concurrency)
        samples = {OURS: pair.ours, OTHER: pair.other}
        say(f"prefix, c {concurrency}: warming up")
        await interleave(samples, 1)
        pair.cached.clear()
        rounds = await interleave(samples, effort.rounds, say)
        gain = ratio(rounds, OTHER, OURS)
        gains.append(gain)
        bound = float(np.mean(pair.bounds))
        cached = estimate(pair.cached) if pair.cached and min(pair.cached) > 0 else Interval(0.0, 0.0, 0.0)
        figures = {
            "cached": ("cached ÷ shareable prompt tokens", cached),
            "ratio": ("TTFT, passages first ÷ fixed part first", gain),
            "bound": (
                "that gain ÷ its bound P / (P − S)",
                gain.scaled(1 / bound),
            ),
        }
        for key, (name, measured) in figures.items():
            must, moon = MUST[key] if on_gpu else (None, None)
            bars.append(
                Bar(
                    name=f"{name}, c {concurrency}", measured=measured, sense="at least", must=must, moon=moon
                )
            )
        floors.append(floor(rounds, OURS, OTHER))
        everything[f"c {concurrency}"] = rounds
        for arm in samples:
            shown = level(rounds, arm).scaled(1e3)
            curves[arm].append(shown)
            arms[f"{arm}, c {concurrency}"] = {"ttft_ms": shown, "noise": noise(rounds, arm)}
        arms[f"{OURS}, c {concurrency}"]["bound"] = Interval(bound, bound, bound)
        wrong += pair.wrong
        share = max(share, pair.client_share)
    profile = host.up.profile
    return Result(
        goal="prefix",
        title="G6: the shared prefix in the cache, and what it gains",
        workload=(
            f"W2s: about {effort.fixed} fixed tokens, {effort.passages} of passages, {QUESTION_WORDS} of a "
            f"question, {effort.tokens} out; shape {shape} ({profile.dtype}) on "
            f"{profile.engine} {profile.engine_version}, {profile.device}; {how_many(rounds)} of "
            f"{effort.requests} requests"
        ),
        bars=bars,
        ratio=gains[-1],
        noise_floor=max(floors),
        rounds=everything,
        arms=arms,
        checks=[
            Check("every answer is whole, and finds no more than is shared", not wrong, "; ".join(wrong[:3])),
            below_its_core(share),
        ],
        machine={**watch.describe(), "engine": host.up.settings["engine"]},
        plot=Plot(
            x="requests at once",
            y="TTFT, ms",
            curves=[Curve(name=name, x=effort.concurrency, y=y) for name, y in curves.items()],
        ),
    )
