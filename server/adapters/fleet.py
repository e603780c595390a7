"""The versions that this process's engine holds: in, tried, held by requests, drained, out."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing

from server.adapters.book import Entry
from server.adapters.intake import Intake
from server.adapters.leases import Live
from server.adapters.names import parted
from server.errors import InvalidValue, Refused, ServerError, UnsupportedAdapterKind
from server.loadables import Loadable
from server.records import Limits
from server.seams import AdapterHost, Decoder

log = logging.getLogger("fewshot.adapters")
Observe = Callable[[str, float], object]  # files, engine or first_token; seconds
Ended = Callable[[str], object]  # loaded; refused: what was asked cannot be; failed: the engine, or this code
PROBE = "The"


class Fleet:
    """Versions by reference. One event loop; `lock(reference)` orders what happens to one name.

    `decoder` raises while the engine is not up. `observe` is told the seconds of each part of a load, `ended`
    how each one ended.
    """

    def __init__(
        self,
        intake: Callable[[], Intake],
        decoder: Callable[[], Decoder],
        observe: Observe,
        ended: Ended,
    ) -> None:
        self._intake = intake
        self._decoder = decoder
        self._observe = observe
        self._ended = ended
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._draining: set[asyncio.Task[None]] = set()
        self.live: dict[str, Live] = {}

    def lock(self, reference: str) -> asyncio.Lock:
        """Raises InvalidValue for what is no reference."""
        return self._locks[parted(reference)[0]]

    def loaded(self, reference: str) -> Live | None:
        """The version if requests may run on it now."""
        live = self.live.get(reference)
        return live if live is not None and live.state == "loaded" else None

    async def bring(self, entry: Entry) -> Live:
        """The version, ready for requests. The caller holds its lock.

        Raises NotFound, UnsupportedAdapterKind, InvalidValue, AdapterInUse, EngineUnavailable; the engine is
        then as it was.
        """
        reference = entry.artefact.reference
        live = self.live.get(reference)
        if live is not None:
            live.state = "loaded"  # it may have been draining: then it never left, and is wanted again
            return live
        try:
            live = await self._brought(entry)
        except Exception as problem:
            self._ended("refused" if isinstance(problem, Refused) else "failed")
            raise
        self._ended("loaded")
        return live

    async def _brought(self, entry: Entry) -> Live:
        reference = entry.artefact.reference
        host = self._host()
        began = time.perf_counter()
        artefact = await asyncio.to_thread(self._intake().in_place, *parted(reference))
        read = time.perf_counter() - began
        if artefact.kind not in host.kinds:
            raise UnsupportedAdapterKind(
                f"this engine was started without room for a {artefact.kind}; see docs/adapters.md",
                param="kind",
            )
        live = Live(artefact)
        self.live[reference] = live
        try:
            live.load_seconds = await self._load(host, entry.number, live)
        except BaseException:
            if self.live.get(reference) is live:
                del self.live[reference]
            raise
        live.state = "loaded"
        tried = time.perf_counter() - began - read - live.load_seconds
        for part, seconds in (("files", read), ("engine", live.load_seconds), ("first_token", tried)):
            self._observe(part, seconds)
        return live

    def let_go(self, reference: str) -> "asyncio.Task[None] | None":
        """No new requests; out of the engine when the last one ends. None: it is not here."""
        live = self.live.get(reference)
        if live is None or live.state == "loading":
            return None
        live.state = "draining"
        task = asyncio.create_task(self._drain(reference, live), name=f"drain {reference}")
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        return task

    async def drop_lost(self) -> bool:
        """Take out what stopped answering by itself; whether there was any. It is loaded again as wanted."""
        try:
            host = self._host()
        except ServerError:
            return False  # no engine, and nothing in it
        lost = [reference for reference in host.lost() if reference in self.live]
        for reference in lost:
            log.error("adapters: the engine of %s is lost", reference)
            async with self.lock(reference):
                self.live.pop(reference, None)
                await host.unload(reference)
        return bool(lost)

    def forget(self) -> None:
        """The engine is lost, and with it all that it held; who waits for it is told by others."""
        self.live.clear()

    async def close(self) -> None:
        draining = list(self._draining)
        for task in draining:
            task.cancel()
        await asyncio.gather(*draining, return_exceptions=True)

    async def _drain(self, reference: str, live: Live) -> None:
        while True:
            await live.free.wait()
            async with self.lock(reference):
                if live.state != "draining" or self.live.get(reference) is not live:
                    return  # wanted again meanwhile, or another drain was faster
                if not live.holders:
                    await self._host().unload(reference)
                    del self.live[reference]
                    return

    async def _load(self, host: AdapterHost, number: int, live: Live) -> float:
        """Into the engine, tried with one token; seconds of the engine's part."""
        artefact = live.artefact
        began = time.perf_counter()
        await host.load(
            Loadable(
                reference=artefact.reference,
                number=number,
                kind=artefact.kind,
                folder=artefact.folder,
                length=artefact.length,
            )
        )
        seconds = time.perf_counter() - began
        try:
            await self._probe(artefact.reference)
        except BaseException:
            await host.unload(artefact.reference)
            raise
        return seconds

    async def _probe(self, reference: str) -> None:
        """What cannot make a token, or makes it of nothing finite, never gets a name."""
        decoder = self._decoder()
        limits = Limits(max_tokens=1, temperature=0.0, logprobs=1, cache_salt=f"probe.{reference}")
        prompt = decoder.tokenizer.encode(PROBE) or (0,)
        asked = decoder.decode(prompt, limits, request_id=f"probe-{time.monotonic_ns()}", adapter=reference)
        async with aclosing(asked) as pieces:
            async for piece in pieces:
                if not all(-1e9 < token.logprob < 1e-3 for token in piece.logprobs or ()):
                    raise InvalidValue(f"{reference} makes the model say nothing finite; train it again")
                if piece.tokens:
                    return
        raise InvalidValue(f"{reference} makes the model say nothing at all; train it again")

    def _host(self) -> AdapterHost:
        host = self._decoder().adapters
        if host is None:
            raise UnsupportedAdapterKind(
                "this engine was started without room for adapters; set engine.max_loras, "
                "engine.soft_rows, engine.prefix_rows or adapters.full_models"
            )
        return host
