"""How much of a load is done between two steps: so much that others' tokens hardly come later."""

import asyncio
import time
from contextlib import suppress
from typing import Any

SHARE = 0.25  # of a step
SHORTEST, LONGEST = 5e-4, 0.025  # seconds; a step that decodes a long prompt is no measure
NOBODY_WAITS = 0.05  # seconds, when no request runs: one that comes now waits for no more


class LoraLoading:
    """Loads LoRAs into `engine`, one at a time: several at once would each take their share of every step.

    `step_seconds` is what a step of one request takes; what is seen while loading beside others corrects it.
    `patience` in seconds is for an engine that does not answer when a load is given up.
    """

    def __init__(self, engine: Any, step_seconds: float, patience: float = 5.0) -> None:
        self._engine = engine
        self._patience = patience
        self._step = step_seconds
        self._one = asyncio.Lock()

    async def load(self, number: int, name: str, folder: str) -> None:
        """Raises what the engine raises; then, and when cancelled, nothing of it stays in the engine."""
        async with self._one:
            try:
                begun = False
                while not await self._slice(number, name, folder, begun=begun):
                    begun = True
            except BaseException:
                with suppress(Exception):  # an engine that has died holds nothing
                    async with asyncio.timeout(self._patience):
                        await self._engine.collective_rpc("drop_lora", args=(number,))
                raise

    async def _slice(self, number: int, name: str, folder: str, *, begun: bool) -> bool:
        """One slice on every rank; whether all are done."""
        busy = self._engine.output_processor.has_unfinished_requests()
        share = min(max(SHARE * self._step, SHORTEST), LONGEST) if busy else NOBODY_WAITS
        asked = time.perf_counter()
        ranks = await self._engine.collective_rpc("load_lora", args=(number, name, folder, share))
        if busy and begun:  # the first came in the middle of a step, the others at the start of one
            waited = time.perf_counter() - asked - max(spent for _, spent in ranks)
            self._step += 0.5 * (waited - self._step)
        return all(done for done, _ in ranks)
