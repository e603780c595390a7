"""Adapters under traffic: is every answer its own adapter's, and what does a load cost?

    python -m bench adapters --requests 200 --cycles 100

A server process with the real model serves the base, three LoRAs, three soft prompts and a prefix, all random
and all changing every answer. Their answers alone are the reference. Then `--requests` at once go on asking
for all of them while versions are promoted, loaded and unloaded; every answer is held against its reference.
"""

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx
import numpy as np

from bench.adapter_folders import write_folders
from server.models import locate
from server.reaching import drain, wait_until_ready
from server.settings import load_settings

MUST_LOAD_MS = 300.0
MUST_GAPS = 1.25  # p99 of others' time between tokens, while loading ÷ without
TIE = 0.05  # of a log-probability: two tokens that near may change places with what is decided beside them
PROMPTS = (
    "Name a colour and say why you like it.",
    "Write one sentence about the sea.",
    "What is two and two?",
    "Give me a word that begins with m.",
)
LISTENS = re.compile(r"listens on (http://\S+)/v1")


class Said(NamedTuple):
    tokens: tuple[str, ...]
    best: tuple[Mapping[str, float], ...]  # of each place, the likeliest tokens


@click.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Name or folder.")
@click.option("--requests", default=200, show_default=True, help="At once.")
@click.option("--cycles", default=100, show_default=True, help="Versions promoted and unloaded.")
@click.option("--tokens", default=12, show_default=True, help="Of an answer.")
@click.option("--loads", default=20, show_default=True, help="Loads that are timed.")
def main(model: str, requests: int, cycles: int, tokens: int, loads: int) -> None:
    """Print what was found as JSON; exit 1 when a bar is missed."""
    settings = load_settings()
    folder = Path(locate(model, settings.paths.cache / "models"))
    with tempfile.TemporaryDirectory(prefix="fewshot-adapters-") as place:
        data = Path(place)
        write_folders(folder, data / "inbox", turning=max(loads, 2))
        with serving(data, folder) as (url, pid):
            found = asyncio.run(measure(url, pid, requests, cycles, tokens, loads))
    print(json.dumps(found, indent=1))
    bars = (
        found["wrong"] == found["failed"] == found["stale"] == 0,
        found["load_milliseconds_p50"] <= MUST_LOAD_MS,
        found["gaps_p99_ratio"] <= MUST_GAPS,
        found["memory_slope_mb_a_cycle"] <= 0.05,
    )
    raise SystemExit(0 if all(bars) else 1)


async def measure(url: str, pid: int, requests: int, cycles: int, tokens: int, loads: int) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=requests + 8)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as http:
        desk = Desk(http, tokens)
        names = [None, *[await desk.add(name, load=True) for name in STAYING]]
        turning = [await desk.add(f"turn-{number}") for number in range(max(loads, 2))]
        alone = {name: [await desk.say(name, prompt) for prompt in PROMPTS] for name in names}
        for reference in turning[:2]:
            await desk.post(f"adapters/{reference}/load")
            alone[reference] = [await desk.say(reference, prompt) for prompt in PROMPTS]
        timed = await time_loads(desk, turning)
        mixed = await mix(desk, alone, names, turning[:2], requests, cycles, pid)
    return {**timed, **mixed}


STAYING = ("lora-0", "lora-1", "lora-2", "soft-0", "soft-1", "soft-2", "prefix-0")


class Desk:
    """An operator who also asks."""

    def __init__(self, http: httpx.AsyncClient, tokens: int) -> None:
        self._http = http
        self._tokens = tokens
        self.base = ""

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self._http.post(f"/v1/{path}", json=body)
        if answer.status_code != 200:
            raise click.ClickException(f"{path}: {answer.status_code} {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

    async def add(self, name: str, *, load: bool = False) -> str:
        """The reference of the folder of this name in the inbox."""
        reference = str((await self.post("adapters", name=name, inbox=name))["id"])
        if load:
            await self.post(f"adapters/{reference}/load")
        return reference

    async def body(self, model: str | None, prompt: str) -> dict[str, Any]:
        if not self.base:
            self.base = (await self._http.get("/v1/models")).json()["data"][0]["id"]
        name = self.base if model is None else f"{self.base}:{model}" if "@" in model else model
        messages = [{"role": "user", "content": prompt}]
        limits = {"max_tokens": self._tokens, "temperature": 0, "ignore_eos": True}
        return {"model": name, "messages": messages, **limits}

    async def say(self, model: str | None, prompt: str) -> Said:
        body = await self.body(model, prompt) | {"logprobs": True, "top_logprobs": 3}
        answer = await self._http.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            raise click.ClickException(f"{answer.status_code} {answer.text}")
        content = answer.json()["choices"][0]["logprobs"]["content"]
        best = ({top["token"]: top["logprob"] for top in one["top_logprobs"]} for one in content)
        return Said(tuple(one["token"] for one in content), tuple(best))

    async def stream(self, model: str | None, prompt: str, tokens: int) -> list[float]:
        """When each piece of text came, time.perf_counter()."""
        times = []
        body = await self.body(model, prompt) | {"stream": True, "max_tokens": tokens}
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as lines:
            async for line in lines.aiter_lines():
                if line.startswith('data: {"') and '"content":"' in line:
                    times.append(time.perf_counter())
        return times


async def time_loads(desk: Desk, turning: Sequence[str]) -> dict[str, Any]:
    """From the POST to the first token of each, less a warm first token; and what the others felt of it."""
    warm = []
    for _ in range(10):
        began = time.perf_counter()
        warm.append((await desk.stream(turning[0], PROMPTS[0], 1))[0] - began)
    for reference in turning[:2]:
        await desk.post(f"adapters/{reference}/unload")
    quiet = await _gaps(desk, asyncio.sleep(10))
    added: list[float] = []

    async def load_all() -> None:
        for reference in turning:
            began = time.perf_counter()
            await desk.post(f"adapters/{reference}/load")
            added.append((await desk.stream(reference, PROMPTS[0], 1))[0] - began - float(np.median(warm)))
            await desk.post(f"adapters/{reference}/unload")
            await asyncio.sleep(0.2)

    busy = await _gaps(desk, load_all())
    for reference in turning[:2]:
        await desk.post(f"adapters/{reference}/load")
    p99 = [float(np.percentile(gaps, 99)) for gaps in (quiet, busy)]
    return {
        "warm_first_token_milliseconds": 1e3 * float(np.median(warm)),
        "load_milliseconds_p50": 1e3 * float(np.median(added)),
        "load_milliseconds_p95": 1e3 * float(np.percentile(added, 95)),
        "gaps_p99_quiet_milliseconds": 1e3 * p99[0],
        "gaps_p99_loading_milliseconds": 1e3 * p99[1],
        "gaps_p99_ratio": p99[1] / p99[0],
    }


async def _gaps(desk: Desk, work: Any) -> list[float]:
    """Seconds between the tokens of two other streams while `work` runs."""
    over = asyncio.ensure_future(work)
    gaps: list[float] = []

    async def listen(prompt: str) -> None:
        while not over.done():
            times = await desk.stream(None, prompt, 64)
            gaps.extend(after - before for before, after in itertools.pairwise(times))

    await asyncio.gather(over, *(listen(prompt) for prompt in PROMPTS[:2]))
    return gaps


async def mix(
    desk: Desk,
    alone: Mapping[str | None, Sequence[Said]],
    names: Sequence[str | None],
    turning: Sequence[str],
    requests: int,
    cycles: int,
    pid: int,
) -> dict[str, Any]:
    """Everybody asks for everything while `live` moves between two versions and the other is unloaded."""
    await desk.post(f"adapters/{turning[0]}/promote", alias="live")
    done = asyncio.Event()
    found: Counter[str] = Counter()
    memory = []

    async def ask(number: int) -> None:
        name, prompt = names[number % len(names)], number // len(names) % len(PROMPTS)
        while not done.is_set():
            try:
                said = await desk.say(name, PROMPTS[prompt])
            except (click.ClickException, httpx.HTTPError) as problem:
                found["failed"] += 1
                print(problem, file=sys.stderr)
                continue
            found["answers"] += 1
            found["tied"] += said.tokens != alone[name][prompt].tokens
            found["wrong"] += not same(said, alone[name][prompt])

    async def turn() -> None:
        for cycle in range(cycles):
            new, old = turning[(cycle + 1) % 2], turning[cycle % 2]
            await desk.post(f"adapters/{new}/promote", alias="live")
            said = await desk.say("live", PROMPTS[0])
            found["stale"] += not same(said, alone[new][0])
            await desk.post(f"adapters/{old}/unload")
            memory.append(resident(pid) / 2**20)
        done.set()

    await asyncio.gather(turn(), *(ask(number) for number in range(requests)))
    half = np.arange(len(memory) // 2, len(memory))
    slope = float(np.polyfit(half, [memory[at] for at in half], 1)[0]) if len(half) > 2 else 0.0
    return {
        **{name: found[name] for name in ("answers", "wrong", "stale", "failed", "tied")},
        "cycles": cycles,
        "memory_mb": memory[-1],
        "memory_slope_mb_a_cycle": slope,
    }


def same(said: Said, wanted: Said) -> bool:
    """Whether the answers are one, or part only where two tokens are nearly as probable."""
    for token, other, best, before in zip(said.tokens, wanted.tokens, said.best, wanted.best, strict=False):
        if token != other:
            return token in before and other in best and abs(before[token] - before[other]) < TIE
    return True


def resident(pid: int) -> int:
    """Bytes of the process and all under it."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(status.parent.name) == pid or int(fields[1]) == pid or int(fields[3]) == pid:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total


@contextmanager
def serving(data: Path, model: Path) -> Iterator[tuple[str, int]]:
    """A server of its own session, ready; its address and process."""
    knobs = {
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_ENGINE_MODEL": str(model),
        "FEWSHOT_ENGINE_CONTEXT": "512",
        "FEWSHOT_ENGINE_MAX_LORAS": "4",
        "FEWSHOT_ENGINE_MAX_LORA_RANK": "8",
        "FEWSHOT_ENGINE_SOFT_ROWS": "64",
        "FEWSHOT_ENGINE_PREFIX_ROWS": "64",
        "FEWSHOT_SERVER_QUEUE": "4096",
        "FEWSHOT_EMBEDDER": "hash",
    }
    command = [sys.executable, "-m", "server.cli", "serve", "--port", "0"]
    environment = os.environ | knobs
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert child.stderr is not None
        lines = []
        url = None
        for line in child.stderr:
            lines.append(line.rstrip())
            if found := LISTENS.search(line):
                url = found[1]
                break
        if url is None:
            raise click.ClickException("the server did not start:\n" + "\n".join(lines[-5:]))
        drain(child)
        until = time.monotonic() + 900
        while not wait_until_ready(url, seconds=1.0, child=child):
            if time.monotonic() > until or child.poll() is not None:
                raise click.ClickException("the server did not become ready; `fewshot serve` shows why")
        yield url, child.pid
    finally:
        child.terminate()
        child.wait(60)
