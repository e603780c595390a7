"""G13: what LoRA costs: eight adapters at work, room for them that idles, a version that arrives (W4).

Three arms through the server: an engine without room for LoRA, one with room and base requests alone, and the
latter with its requests spread over the adapters. The engines stay up together; only one is asked at a time.
"""

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.adapters import time_loads
from bench.checks import SameWork
from bench.client import chat
from bench.crowd import Crowd
from bench.desk import Desk
from bench.host import Host
from bench.machine import Watch, on_gpu_machine
from bench.records import Bar, Check, Result, by_round
from bench.rounds import Interval, floor, how_many, interleave, level, noise, ratio
from server.adapters.base_model import read_base

PROMPT_TOKENS = 256  # W1
RANK, ACTIVE = 16, 8
PLAIN, IDLE, BUSY = "no room for LoRA", "base beside room for LoRA", "8 LoRA"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    tokens: int
    streams: int
    requests: int  # a sample
    loads: int


QUICK = Effort(rounds=2, tokens=16, streams=8, requests=16, loads=4)
FULL = Effort(rounds=3, tokens=128, streams=64, requests=192, loads=8)


def names(loads: int) -> tuple[list[str], list[str]]:
    """Adapters that stay, and those whose loads are timed."""
    return [f"stay-{n}" for n in range(ACTIVE)], [f"turn-{n}" for n in range(loads)]


def write_loras(model: Path, inbox: Path, wanted: Iterable[str]) -> None:
    """Random LoRAs of rank 16 on every linear layer, in sixteen bits."""
    from safetensors.numpy import save_file

    base = read_base(model)
    draw = np.random.default_rng(11)
    tensors = {}
    for name, (rows, columns) in ((n, s) for n, s in base.shapes.items() if len(s) == 2):
        module = name.removesuffix(".weight")
        if module.endswith(LINEAR):
            a = draw.standard_normal((RANK, columns), dtype=np.float32) / np.sqrt(columns)
            b = draw.standard_normal((rows, RANK), dtype=np.float32) * 0.01
            tensors[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float16)
            tensors[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float16)
    first = next(iter(tensors))
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    for name in wanted:
        folder = inbox / name
        folder.mkdir(parents=True)
        # Each its own, without drawing all of it again.
        tensors[first] = (tensors[first] * np.float16(0.9)).astype(np.float16)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": list(LINEAR)}))


class Arms:
    def __init__(self, plain: Host, lora: Host, clients: Crowd, effort: Effort, models: list[str]) -> None:
        self._hosts = {PLAIN: plain, IDLE: lora, BUSY: lora}
        self._clients = clients
        self._effort = effort
        self._models = models
        self._samples = dict.fromkeys(self._hosts, 0)
        self.work = SameWork(effort.tokens)
        self.client_share = 0.0

    def sample(self, arm: str) -> Callable[[], Any]:
        async def tokens_per_second() -> float:
            host = self._hosts[arm]
            self._samples[arm] += 1
            # Two arms ask one engine: each its own prompts, or one would find the other's in the cache.
            seed = 90_000 + 1000 * list(self._hosts).index(arm) + self._samples[arm]
            drawn = {"seed": seed, "count": self._effort.requests, "tokens": PROMPT_TOKENS}
            prompts = await self._hosts[PLAIN].draw(**drawn)
            self.work.fresh(prompts)
            asked = itertools.cycle(self._models if arm == BUSY else [host.up.profile.name])
            requests = [
                chat(model, prompt.text, self._effort.tokens)
                for model, prompt in zip(asked, prompts, strict=False)
            ]
            sent = await self._clients.send(host.up.port, requests, self._effort.streams)
            self.client_share = max(self.client_share, sent.client_share)
            self.work.answered(sent.answers, prompts, arm)
            return sum(answer.tokens for answer in sent.answers) / sent.seconds

        return tokens_per_second


async def measure(
    plain: Host, lora: Host, clients: Crowd, shape: str, effort: Effort, say: Callable[[str], object]
) -> Result:
    """`lora` has the folders of `names` in its inbox."""
    watch = Watch()
    staying, turning = names(effort.loads)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{lora.up.port}", timeout=600) as http:
        desk = Desk(http, 1)
        base = lora.up.profile.name
        say("lora: timing loads")
        versions = [await desk.add(name) for name in turning]
        loads = await time_loads(desk, versions)
        models = [f"{base}:{await desk.add(name, load=True)}" for name in staying]
        arms = Arms(plain, lora, clients, effort, models)
        samples = {arm: arms.sample(arm) for arm in (PLAIN, IDLE, BUSY)}
        say("lora: warming up")
        await interleave(samples, 1)
        rounds = await interleave(samples, effort.rounds, say)
    on_gpu = on_gpu_machine()
    noisy = floor(rounds, IDLE, BUSY)

    def bar(
        name: str, measured: Interval, must: float, moon: float, unit: str = "", least: bool = True
    ) -> Bar:
        return Bar(
            name=name,
            measured=measured,
            unit=unit,
            sense="at least" if least else "at most",
            must=must if on_gpu else None,
            moon=moon if on_gpu else None,
            resolution=noisy if least else 0.0,
        )

    def exact(value: float) -> Interval:
        return Interval(value, value, value)

    profile = lora.up.profile
    return Result(
        goal="lora",
        title="G13: LoRA: throughput, room that idles, a version that arrives",
        workload=(
            f"W1 in a closed loop: {PROMPT_TOKENS} tokens in, {effort.tokens} out, {effort.streams} streams, "
            f"{ACTIVE} LoRA of rank {RANK} on every linear layer, shape {shape} ({profile.dtype}) on "
            f"{profile.engine} {profile.engine_version}, {profile.device}; {how_many(rounds)}"
        ),
        bars=[
            bar("tokens a second, 8 LoRA ÷ base, same engine", ratio(rounds, BUSY, IDLE), 0.85, 0.95),
            bar("tokens a second, room for LoRA that idles ÷ none", ratio(rounds, IDLE, PLAIN), 0.97, 0.99),
            bar(
                "a version that is loaded and asked − a warm question, p50",
                exact(loads["load_milliseconds_p50"]),
                300,
                100,
                "ms",
                least=False,
            ),
            bar(
                "time between others' tokens, p99, while loading ÷ quiet",
                exact(loads["gaps_p99_ratio"]),
                1.25,
                1.05,
                least=False,
            ),
        ],
        ratio=ratio(rounds, BUSY, IDLE),
        noise_floor=noisy,
        rounds=rounds,
        arms={
            **{
                arm: {"tokens_per_second": level(rounds, arm), "noise": noise(rounds, arm)} for arm in samples
            },
            "loads": loads,
        },
        checks=[
            *arms.work.checks(arms.client_share),
            Check("each adapter is asked as often", effort.requests % ACTIVE == 0),
        ],
        machine={**watch.describe(), "engine": lora.up.settings["engine"]},
        plot=by_round(rounds, "tokens a second"),
        notes=("Loads are timed through the HTTP routes: load, first token, less a warm first token.",),
    )
