"""The decoder's life: opened beside a listening port, probed with real tokens, closed at the end.

Search, files and /health answer while the engine starts; what needs a decoder is told `starting`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Literal

from server.errors import EngineUnavailable, ServerError, Starting
from server.records import Limits
from server.seams import Decoder

State = Literal["starting", "ready", "not_ready"]
log = logging.getLogger("fewshot.engine")
PROBE_SECONDS = 5.0  # a token produced for anybody within this time counts instead of a probe
PROOF_SECONDS = 10.0  # without a token for longer than this, the engine is not ready


class Engine:
    """Holds the decoder once it is open and knows when it last proved itself."""

    def __init__(
        self, open_decoder: Callable[[], Awaitable[Decoder]], *, proof_seconds: float = PROOF_SECONDS
    ) -> None:
        self._open_decoder = open_decoder
        self._decoder: Decoder | None = None
        self._failure: str | None = None
        self._proof_seconds = proof_seconds
        self._proved_at = -float("inf")
        self._life: asyncio.Task[None] | None = None
        self.up = asyncio.Event()  # set when the first token is out, or the start has failed

    def start(self) -> None:
        """Open the decoder in the background; returns at once."""
        self._life = asyncio.create_task(self._live(), name="engine")

    @property
    def decoder(self) -> Decoder:
        """Raises Starting while the engine is not up yet, EngineUnavailable when it could not start."""
        if self._failure is not None:
            raise EngineUnavailable(
                "the engine did not start; the server's log says why", retry_after_seconds=30
            )
        if self._decoder is None:
            raise Starting("the engine is starting; /ready tells when it is up", retry_after_seconds=5)
        return self._decoder

    @property
    def state(self) -> State:
        """Cached: constant time, whatever the engine is doing."""
        if self._decoder is None:
            return "not_ready" if self._failure is not None else "starting"
        return "ready" if time.monotonic() - self._proved_at < self._proof_seconds else "not_ready"

    @property
    def failure(self) -> str | None:
        """Why the engine did not start, for the operator's terminal; never sent to callers."""
        return self._failure

    def proved(self) -> None:
        """A token came out of the engine, for whomever."""
        self._proved_at = time.monotonic()

    async def close(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        if self._decoder is not None:
            await self._decoder.close()

    async def _live(self) -> None:
        try:
            decoder = await self._open_decoder()
            await self._probe(decoder)
        except Exception as problem:
            self._failure = str(problem)
            log.error("engine: %s", problem)
            self.up.set()
            return
        self._decoder = decoder
        self.proved()
        self.up.set()
        while True:
            await asyncio.sleep(PROBE_SECONDS / 2)
            if time.monotonic() - self._proved_at < PROBE_SECONDS:
                continue
            try:
                async with asyncio.timeout(self._proof_seconds):
                    await self._probe(decoder)
                self.proved()
            except (TimeoutError, ServerError) as problem:
                log.error("engine: no token within %g s: %s", self._proof_seconds, problem)

    async def _probe(self, decoder: Decoder) -> None:
        """One real token: the first piece is proof enough."""
        prompt = decoder.tokenizer.encode("a") or (0,)
        limits = Limits(max_tokens=1, temperature=0.0)
        async with aclosing(
            decoder.decode(prompt, limits, request_id=f"probe-{time.monotonic_ns()}")
        ) as pieces:
            async for _ in pieces:
                return
        raise EngineUnavailable("a probe produced no token")
