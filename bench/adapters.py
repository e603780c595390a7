"""Adapters under traffic: is every answer its own adapter's, and what does a load cost?

    python -m bench adapters --requests 200 --cycles 100     all
    python -m bench adapters --cycles 0                      the cost of loads alone; wants a quiet machine
    python -m bench adapters --loads 0                       right answers alone

A server process with the real model serves the base, three LoRAs, three soft prompts and a prefix, all random
and all changing every answer. Their answers alone are the reference. Loads are timed with nobody else there
and beside two streams, each against a warm request in the same company. Then `--requests` at once go on
asking for all of them while five operators promote, load and unload versions, and every answer is held
against its reference.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np

from bench.adapter_folders import write_folders
from bench.desk import TIE, Desk, Said, same
from bench.gaps import Gaps
from bench.servers import fewshot_server
from server.models import locate
from server.settings import load_settings

MUST_LOAD_MS = 300.0
MUST_GAPS = 1.25  # p99 of others' time between tokens, while loading ÷ without
MUST_MEMORY_MB = 0.05  # a cycle, at most
PROMPTS = (
    "Name a colour and say why you like it.",
    "Write one sentence about the sea.",
    "What is two and two?",
    "Give me a word that begins with m.",
)
STAYING = ("lora-0", "lora-1", "lora-2", "soft-0", "soft-1", "soft-2", "prefix-0")
OPERATORS = 5  # each moves an alias of its own between two versions
START_SECONDS = 900.0  # with LoRA on a busy machine
WARM = 10  # warm requests that are timed
QUIET, PAUSE = 1.0, 0.2  # seconds of nothing; after a request
PHASES = ("quiet", "asking", "loading", "asking_anew")  # nothing; a request; a load; its first request
LOAD_SECONDS = "fewshot_adapter_load_seconds"
KNOBS = {
    "FEWSHOT_ENGINE_CONTEXT": "512",
    "FEWSHOT_ENGINE_MAX_LORAS": "8",
    "FEWSHOT_ENGINE_MAX_LORA_RANK": "8",
    "FEWSHOT_ENGINE_SOFT_ROWS": "64",
    "FEWSHOT_ENGINE_PREFIX_ROWS": "64",
    "FEWSHOT_SERVER_QUEUE": "4096",
    "FEWSHOT_SERVER_DEADLINE_SECONDS": "3600",  # on a slow machine the queue is long: late is not wrong
    "FEWSHOT_EMBEDDER": "hash",
    "FEWSHOT_ENGINE_KV_CACHE_BYTES": str(2**30),
    "FEWSHOT_ENGINE_GPU_MEMORY_SHARE": "0.05",  # of a card, looked for before the start
}


@click.command()
@click.option("--model", default="smollm2-135m-instruct", show_default=True, help="Name or folder.")
@click.option("--requests", default=200, show_default=True, help="At once.")
@click.option("--cycles", default=100, show_default=True, help="Versions promoted and unloaded.")
@click.option("--tokens", default=6, show_default=True, help="Of an answer.")
@click.option("--loads", default=20, show_default=True, help="Loads that are timed.")
@click.option(
    "--tie",
    default=TIE,
    show_default=True,
    help="Log-probabilities this near may change places; 0.5 in bfloat16.",
)
def main(model: str, requests: int, cycles: int, tokens: int, loads: int, tie: float) -> None:
    """Print what was found as JSON; exit 1 when a bar is missed."""
    folder = Path(locate(model, load_settings().paths.cache / "models"))
    with tempfile.TemporaryDirectory(prefix="fewshot-adapters-") as place:
        write_folders(folder, Path(place, "inbox"), turning=max(loads, 2 * OPERATORS))
        knobs = KNOBS | {"FEWSHOT_DATA_DIR": place, "FEWSHOT_ENGINE_MODEL": str(folder)}
        with fewshot_server(knobs, start_seconds=START_SECONDS) as (pid, port):
            found = asyncio.run(
                measure(f"http://127.0.0.1:{port}", pid, requests, cycles, tokens, loads, tie)
            )
    print(json.dumps(found, indent=1))
    bars = (
        found.get("wrong", 0) == found.get("failed", 0) == found.get("stale", 0) == 0,
        found.get("memory_slope_mb_a_cycle", 0.0) <= MUST_MEMORY_MB,
        found.get("load_milliseconds_p50", 0.0) <= MUST_LOAD_MS,
        found.get("load_beside_streams_milliseconds_p50", 0.0) <= MUST_LOAD_MS,
        found.get("gaps_p99_ratio", 0.0) <= MUST_GAPS,
    )
    raise SystemExit(0 if all(bars) else 1)


async def measure(
    url: str, pid: int, requests: int, cycles: int, tokens: int, loads: int, tie: float = TIE
) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=requests + 8)
    async with httpx.AsyncClient(base_url=url, timeout=3600, limits=limits) as http:
        desk = Desk(http, tokens)
        turning = [await desk.add(f"turn-{number}") for number in range(max(loads, 2 * OPERATORS))]
        found: dict[str, Any] = {}
        if loads:
            found |= await time_loads(desk, turning[:loads])
        if cycles:
            names = [None, *[await desk.add(name, load=True) for name in STAYING]]
            alone = {name: [await desk.say(name, prompt) for prompt in PROMPTS] for name in names}
            found |= await mix(desk, alone, turning[: 2 * OPERATORS], requests, cycles, pid, tie)
    return found


async def time_loads(desk: Desk, turning: Sequence[str]) -> dict[str, Any]:
    """Milliseconds from the POST to the first token, less a warm first token; what others felt of it."""
    half = len(turning) // 2 or 1
    warm = await _warm(desk, turning[0])
    lone = await _loaded(desk, turning[:half], warm)
    beside, gaps, warm_beside = await _beside(desk, turning[0], turning[half:] or turning)
    p99 = {phase: 1e3 * float(np.percentile(gaps.all(phase), 99)) for phase in PHASES}
    return {
        "warm_milliseconds": 1e3 * warm,
        **{f"load_{name}": value for name, value in lone.items()},
        "warm_beside_streams_milliseconds": 1e3 * warm_beside,
        **{f"load_beside_streams_{name}": value for name, value in beside.items()},
        "gaps_p50_quiet_milliseconds": 1e3 * float(np.median(gaps.all("quiet"))),
        **{f"gaps_p99_{phase}_milliseconds": value for phase, value in p99.items()},
        "gaps_p99_ratio": p99["loading"] / p99["quiet"],
        "gaps_p99_ratio_of_mere_requests": p99["asking"] / p99["quiet"],
        "gaps_p99_ratio_of_first_requests": p99["asking_anew"] / p99["quiet"],
        **{f"gaps_longest_{phase}_milliseconds_p50": 1e3 * gaps.longest(phase) for phase in PHASES},
    }


async def _beside(desk: Desk, other: str, turning: Sequence[str]) -> tuple[dict[str, float], Gaps, float]:
    """Beside two streams, in turn: nothing, a request, a load, its first request.

    There is a pause after each, for a gap belongs to all that it overlaps.

    All requests are equally long and find nothing in the cache, as the first one of a version never does; and
    all phases of a turn meet the same noise of the machine. `other` stays loaded to be asked.
    """
    async with Gaps.of(desk, PROMPTS[:2]) as gaps:
        warm = await _warm(desk, other)
        await desk.post(f"adapters/{other}/load")
        before, added = await desk.metrics(LOAD_SECONDS), []
        for number, reference in enumerate(turning):
            with gaps.phase("quiet"):
                await asyncio.sleep(QUIET)
            with gaps.phase("asking"):
                await _first(desk, other, f"{number:03d} {PROMPTS[0]}")
            await asyncio.sleep(PAUSE)
            with gaps.phase("loading"):
                began = time.perf_counter()
                await desk.post(f"adapters/{reference}/load")
                loaded = time.perf_counter() - began
            await asyncio.sleep(PAUSE)
            with gaps.phase("asking_anew"):
                first = await _first(desk, reference, f"{number:03d} {PROMPTS[0]}")
            added.append(1e3 * (loaded + first - warm))
            await asyncio.sleep(PAUSE)
            await desk.post(f"adapters/{reference}/unload")
        await desk.post(f"adapters/{other}/unload")
    return await _added(desk, added, before), gaps, warm


async def _first(desk: Desk, reference: str, prompt: str = PROMPTS[0]) -> float:
    """Seconds to the first token."""
    began = time.perf_counter()
    return (await desk.stream(reference, prompt, 1))[0] - began


async def _warm(desk: Desk, reference: str) -> float:
    """Median seconds to the first token of a version that is loaded and was asked before."""
    await desk.post(f"adapters/{reference}/load")
    await _first(desk, reference)
    seconds = []
    for _ in range(WARM):
        seconds.append(await _first(desk, reference))
        await asyncio.sleep(PAUSE)
    await desk.post(f"adapters/{reference}/unload")
    return float(np.median(seconds))


async def _loaded(desk: Desk, turning: Sequence[str], warm: float) -> dict[str, float]:
    """Load, ask and unload each; what it took beyond `warm` seconds."""
    added, before = [], await desk.metrics(LOAD_SECONDS)
    for reference in turning:
        began = time.perf_counter()
        await desk.post(f"adapters/{reference}/load")
        loaded = time.perf_counter() - began
        added.append(1e3 * (loaded + await _first(desk, reference) - warm))
        await desk.post(f"adapters/{reference}/unload")
        await asyncio.sleep(PAUSE)
    return await _added(desk, added, before)


async def _added(desk: Desk, added: Sequence[float], before: Mapping[str, float]) -> dict[str, float]:
    return {
        "milliseconds_p50": float(np.median(added)),
        "milliseconds_p95": float(np.percentile(added, 95)),
        "milliseconds_worst": float(np.max(added)),
        **await _parts(desk, before),
    }


async def _parts(desk: Desk, began: Mapping[str, float]) -> dict[str, float]:
    """Mean milliseconds of each part of the loads since `began`, by the server's own clock."""
    now = await desk.metrics(LOAD_SECONDS)
    found = {}
    for part in ("files", "engine", "first_token"):
        spent, count = (
            now.get(name, 0.0) - began.get(name, 0.0)
            for name in (f'_{what}{{part="{part}"}}' for what in ("sum", "count"))
        )
        found[f"{part}_milliseconds_mean"] = 1e3 * spent / max(count, 1)
    return found


async def mix(
    desk: Desk,
    alone: Mapping[str | None, Sequence[Said]],
    turning: Sequence[str],
    requests: int,
    cycles: int,
    pid: int,
    tie: float,
) -> dict[str, Any]:
    """Everybody asks for everything while each operator's alias moves and the version left is unloaded."""
    names = list(alone)
    first: dict[str, Said] = {}
    for reference in turning:
        await desk.post(f"adapters/{reference}/load")
        first[reference] = await desk.say(reference, PROMPTS[0])
    for number in range(OPERATORS):
        await desk.post(f"adapters/{turning[2 * number]}/promote", alias=f"live-{number}")
    done = asyncio.Event()
    found: Counter[str] = Counter()
    memory: list[float] = []
    began = time.monotonic()

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
            found["wrong"] += not same(said, alone[name][prompt], tie)

    async def turn(operator: int) -> None:
        pair = turning[2 * operator : 2 * operator + 2]
        for cycle in range(cycles // OPERATORS or 1):
            new, old = pair[(cycle + 1) % 2], pair[cycle % 2]
            await desk.post(f"adapters/{new}/promote", alias=f"live-{operator}")
            said = await desk.say(f"live-{operator}", PROMPTS[0])
            found["stale"] += not same(said, first[new], tie)
            await desk.post(f"adapters/{old}/unload")
            memory.append(resident(pid) / 2**20)
            told = f"cycle {len(memory)} after {time.monotonic() - began:.0f} s, {memory[-1]:.0f} MB"
            print(f"{told}: {dict(found)}", file=sys.stderr)

    asked = [asyncio.ensure_future(ask(number)) for number in range(requests)]
    try:
        await asyncio.gather(*map(turn, range(OPERATORS)))
    finally:
        done.set()
        await asyncio.gather(*asked, return_exceptions=True)
    half = np.arange(len(memory) // 2, len(memory))
    slope = float(np.polyfit(half, [memory[at] for at in half], 1)[0]) if len(half) > 2 else 0.0
    return {
        **{name: found[name] for name in ("answers", "wrong", "stale", "failed", "tied")},
        "cycles": len(memory),
        "memory_mb": memory[-1],
        "memory_slope_mb_a_cycle": slope,
    }


def resident(pid: int) -> int:
    """Bytes of the process and all under it."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(status.parent.name), int(fields[1])):
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total
