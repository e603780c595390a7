"""What a load and a first question do, done at the start beside streams, so that nobody waits for kernels.

On a card some are compiled when a batch first needs them: one with a single log-probability, as the proof of
a version asks for, or one in which an adapter joins requests on the base. Compiling takes tenths of seconds.
"""

import asyncio
from typing import Any

from server.records import Limits
from server.vllm_decoder.sampling import sampling_params

STREAMS = (0, 1, 2)  # beside the load: Triton compiles for one of a thing, and again for several
STREAM = Limits(max_tokens=64, temperature=0.0, ignore_eos=True)  # longer than what is beside it
ASKED = (  # prompt tokens, and the limits
    (1, Limits(max_tokens=1, temperature=0.0, logprobs=1, ignore_eos=True)),  # as server/adapters/fleet.py
    (45, Limits(max_tokens=2, temperature=0.0, ignore_eos=True)),
    (45, Limits(max_tokens=2, temperature=0.7, top_p=0.9, ignore_eos=True)),
)
LEAST_CONTEXT = 128  # tokens that all this fits into
# Longer than what graphs are captured for; Triton compiles for multiples of sixteen, and again for others.
LONG = (1001, 1008, 3001)


async def rehearse(engine: Any, lora: Any) -> None:
    """`lora` is the request of an adapter that is loaded. Raises what the engine raises."""
    if engine.model_config.max_model_len < LEAST_CONTEXT:
        return
    for streams in STREAMS:
        names = [f"{streams}-beside-{number}" for number in range(streams)]
        beside = [asyncio.ensure_future(_ask(engine, name, None, 45, STREAM)) for name in names]
        for number, (length, limits) in enumerate(ASKED):
            await _ask(engine, f"{streams}-{number}", lora, length, limits)
        await asyncio.gather(*beside)
    for length in LONG:
        if length < engine.model_config.max_model_len:
            await _ask(engine, f"long-{length}", lora, length, ASKED[0][1])


async def _ask(engine: Any, name: str, lora: Any, length: int, limits: Limits) -> None:
    """Finds nothing in the cache, and leaves nothing that others find."""
    name = f"rehearsal-{name}"
    inputs = {"prompt_token_ids": [5 + place % 12 for place in range(length)], "cache_salt": name}
    async for _ in engine.generate(inputs, sampling_params(limits), name, lora_request=lora):
        pass
