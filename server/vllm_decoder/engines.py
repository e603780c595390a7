"""Engines beside the first, one for each model with other weights: full finetunes, deltas, merged (IA)³.

Each is a fresh start from a folder: vLLM 0.32 can exchange the weights of a running engine, but on a
processor leaves a head that is tied to the embedding as it was, without a word (decision 0170).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from server.errors import AdapterInUse, EngineUnavailable, InvalidValue
from server.loadables import Loadable
from server.vllm_decoder.merging import TENSORS, merged, weight_bytes
from server.vllm_decoder.options import EngineOptions
from server.vllm_decoder.starting import GIB, in_thread, start

log = logging.getLogger("fewshot.adapters")
KINDS = frozenset({"full", "delta", "ia3", "bottleneck"})
BESIDES = GIB  # what an engine's process takes besides weights and cache; 0.65 GiB when measured


class Room(NamedTuple):
    """Memory where models run: of the card, or of the machine."""

    free: int
    total: int


class Engines:
    """At most `options.full_models` engines; `room` says what memory there is. One event loop."""

    def __init__(
        self,
        options: EngineOptions,
        *,
        width: int,
        room: Callable[[], Awaitable[Room]],
        begin: Callable[[EngineOptions], Any] = start,
    ) -> None:
        self._options = options
        self._width = width  # bytes of a number
        self._room = room
        self._begin = begin
        self._cache = Path(options.merged_cache)
        self._starting = asyncio.Lock()  # one at a time: each must see what memory the last one took
        self._running: dict[str, Any] = {}
        self._closed = False
        self._closing: asyncio.Future[None] | None = None

    async def load(self, adapter: Loadable) -> Any:
        """The engine, up. Raises AdapterInUse when there is no place or memory, InvalidValue, OSError."""
        starting = asyncio.ensure_future(self._load(adapter))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda done: self._abandon(done, adapter.reference))
            raise

    async def unload(self, reference: str) -> None:
        """Harmless for one that is not here."""
        if reference in self._running:
            await shut(self._running.pop(reference))

    def lost(self) -> frozenset[str]:
        """The references of those whose engine has died."""
        return frozenset(reference for reference, engine in self._running.items() if engine.errored)

    async def close(self) -> None:
        """What is still starting is closed when it has started."""
        self._closed = True
        for reference in list(self._running):
            await self.unload(reference)

    async def _load(self, adapter: Loadable) -> Any:
        async with self._starting:
            if len(self._running) >= self._options.full_models:
                raise AdapterInUse(
                    f"{', '.join(sorted(self._running))} fill the {self._options.full_models} places for "
                    "models with weights of their own; unload one, or raise adapters.full_models",
                    param="id",
                )
            room = await self._room()
            try:
                engine = await in_thread(lambda: self._begun(adapter, room))
            except AdapterInUse:
                raise
            except Exception as problem:
                log.error("adapters: no engine for %s: %s", adapter.reference, problem)
                raise InvalidValue(
                    f"no engine starts with {adapter.reference}; the server's log says why", param="id"
                ) from problem
            if self._closed:
                await shut(engine)
                raise EngineUnavailable("the server is closing", retry_after_seconds=30)
            if adapter.kind == "bottleneck":
                await self._inserted(adapter, engine)
            self._running[adapter.reference] = engine
            return engine

    async def _inserted(self, adapter: Loadable, engine: Any) -> None:
        """Raises InvalidValue where the model's blocks are not known; then the engine is closed."""
        try:
            await engine.collective_rpc("insert_bottlenecks", args=(str(adapter.folder / TENSORS),))
        except BaseException as problem:
            await shut(engine)
            if not isinstance(problem, Exception):
                raise
            log.error("adapters: no bottlenecks for %s: %s", adapter.reference, problem)
            raise InvalidValue(
                f"the engine refuses {adapter.reference}: bottleneck adapters are served on models of the "
                "families Llama, Mistral, Qwen 2 and 3",
                param="id",
            ) from problem

    def _begun(self, adapter: Loadable, room: Room) -> Any:
        """Blocks. Raises AdapterInUse when the memory that is free does not do."""
        base, cache = Path(self._options.model), self._options.full_kv_cache_bytes
        needed = weight_bytes(base, self._width) + cache + BESIDES
        if needed > room.free:
            raise AdapterInUse(
                f"{adapter.reference} needs an engine of its own and about {needed / GIB:.1f} GiB of memory; "
                f"{room.free / GIB:.1f} of {room.total / GIB:.1f} GiB are free. Unload another such model, "
                "lower adapters.full_kv_cache_bytes, or serve it from a larger machine",
                param="id",
            )
        with merged(base, adapter, self._cache) as folder:
            # Hooks are not run by compiled code or replayed graphs.
            hooked: dict[str, Any] = {"hooked": True, "eager": True} if adapter.kind == "bottleneck" else {}
            return self._begin(
                replace(
                    self._options,
                    model=str(folder),
                    kv_cache_bytes=cache,
                    gpu_memory_share=min(needed / room.total, 0.95),
                    max_loras=0,
                    soft_rows=0,
                    prefix_rows=0,
                    full_models=0,
                    metrics=False,
                    **hooked,
                )
            )

    def _abandon(self, started: "asyncio.Future[Any]", reference: str) -> None:
        """Whoever wanted it has gone while it started."""
        if not started.cancelled() and started.exception() is None:
            self._closing = asyncio.ensure_future(self.unload(reference))


async def shut(engine: Any) -> None:
    """Returns when the engine's processes have ended."""
    if engine.output_handler is not None:
        engine.output_handler.cancel()  # or it logs the core's orderly end as a crash
    await asyncio.to_thread(engine.shutdown)
    engine.shutdown = _ended


def _ended(timeout: float | None = None) -> None:
    """In the place of `shutdown`, which AsyncLLM.__del__ calls again when its modules may be gone already."""
