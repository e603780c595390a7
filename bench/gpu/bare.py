"""Arm A1: vLLM's AsyncLLM with token ids and nothing above it; runs in the engine's own process."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.clocked import Decoded
from bench.host import Host
from server.records import Limits

ABOUT = "A1 is vLLM's AsyncLLM in the server's own process, given token ids, its deltas drained and dropped"


async def bare(
    host: Host, prompts: Sequence[tuple[int, ...]], *, tokens: Sequence[int], concurrency: int
) -> tuple[list[Decoded], float]:
    """The answers in the prompts' order, and seconds from the first question to the last answer.

    `tokens` are those of each answer.
    """
    work = partial(drained, prompts=prompts, tokens=tokens, concurrency=concurrency)
    found: tuple[list[Decoded], float] = await host.call(work)
    return found


async def drained(
    decoder: Any, *, prompts: Sequence[tuple[int, ...]], tokens: Sequence[int], concurrency: int
) -> tuple[list[Decoded], float]:
    from server.vllm_decoder.sampling import sampling_params

    waiting = iter(enumerate(zip(prompts, tokens, strict=True)))
    found: dict[int, Decoded] = {}

    async def work() -> None:
        for number, (prompt, wanted) in waiting:
            limits = Limits(max_tokens=wanted, temperature=0.0, ignore_eos=True)
            asked, first, count, cached = time.monotonic(), 0.0, 0, 0
            inputs = {"prompt_token_ids": list(prompt), "cache_salt": "bare"}
            name = f"bare-{time.monotonic_ns()}-{number}"
            async for output in decoder.engine.generate(inputs, sampling_params(limits), name):
                first = first or time.monotonic()
                count += len(output.outputs[0].token_ids)
                cached = max(cached, output.num_cached_tokens or 0)
            found[number] = Decoded(asked, first, "", count, cached, time.monotonic())

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())
    return [found[number] for number in sorted(found)], time.monotonic() - began
