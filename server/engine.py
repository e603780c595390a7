"""The decoder's life: opened beside a listening port, probed with real tokens, opened again when it is lost.

Search, files and /health answer while the engine starts; what needs a decoder is told `starting`. An engine
that dies, or gives no token for long, is given up: whoever waits for it is told so at once, it is closed and
opened again. One that is lost too often stays closed, for then the process should end.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal

from server.errors import EngineUnavailable, Starting
from server.records import Limits
from server.seams import Decoder

State = Literal["starting", "ready", "not_ready"]
log = logging.getLogger("fewshot.engine")
PROBE_SECONDS = 5.0  # a token produced for anybody within this time counts instead of a probe
PROOF_SECONDS = 10.0  # without a token for longer than this, the engine is not ready
HANG_SECONDS = (
    300.0  # without one for longer than this, it is lost: long prompts on a busy processor take many
)
CLOSE_SECONDS = 30.0  # for a lost one to close; one that cannot is left to the system
PAUSE_SECONDS = 1.0  # before it is opened again
LOSSES, WITHIN_SECONDS = 3, 600.0  # so many within this time, and it stays closed
LOST = "the engine stopped and is being started again; ask again"


class Telling:
    """A block in which somebody is among those who are told."""

    def __init__(self, told: set[Callable[[], object]], lost: Callable[[], object]) -> None:
        self._told = told
        self._lost = lost

    def __enter__(self) -> None:
        self._told.add(self._lost)

    def __exit__(self, *_: object) -> None:
        self._told.discard(self._lost)


class Engine:
    """Holds the decoder while it is open and knows when it last proved itself."""

    def __init__(
        self,
        open_decoder: Callable[[], Awaitable[Decoder]],
        *,
        probe_seconds: float = PROBE_SECONDS,
        proof_seconds: float = PROOF_SECONDS,
        hang_seconds: float = HANG_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        observe: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        """`observe` is told the seconds that each probe took to make its token."""
        self._open_decoder = open_decoder
        self._decoder: Decoder | None = None
        self._failure: str | None = None
        self._probe_seconds = probe_seconds
        self._proof_seconds = proof_seconds
        self._hang_seconds = hang_seconds
        self._pause_seconds = pause_seconds
        self._observe = observe
        self._proved_at = -float("inf")
        self._life: asyncio.Task[None] | None = None
        self._waiting: set[Callable[[], object]] = set()  # who is to be told that the engine is lost
        self.losses = 0  # times it was lost since the start
        self.up = asyncio.Event()  # set when the first token is out, or the start has failed
        self.ended = asyncio.Event()  # set when it is down for good; then there is a `failure`

    def start(self) -> None:
        """Open the decoder in the background; returns at once."""
        self._life = asyncio.create_task(self._live(), name="engine")

    @property
    def decoder(self) -> Decoder:
        """Raises Starting while the engine is not up yet, EngineUnavailable when it is lost or down."""
        if self._failure is not None:
            raise EngineUnavailable("the engine is down; the server's log says why", retry_after_seconds=30)
        if self._decoder is not None:
            return self._decoder
        if self.up.is_set():
            raise EngineUnavailable(LOST, retry_after_seconds=30)
        raise Starting("the engine is starting; /ready tells when it is up", retry_after_seconds=5)

    @property
    def state(self) -> State:
        """Cached: constant time, whatever the engine is doing."""
        if self._decoder is None:
            return "not_ready" if self.up.is_set() else "starting"
        return "ready" if time.monotonic() - self._proved_at < self._proof_seconds else "not_ready"

    @property
    def failure(self) -> str | None:
        """Why the engine is down for good, for the operator's terminal; never sent to callers."""
        return self._failure

    def proved(self) -> None:
        """A token came out of the engine, for whomever."""
        self._proved_at = time.monotonic()

    def when_lost(self, lost: Callable[[], object]) -> None:
        """Call `lost` every time the engine is lost: what was loaded into it is gone."""
        self._waiting.add(lost)

    def telling(self, lost: Callable[[], object]) -> "Telling":
        """A block: calls `lost` when the engine is lost meanwhile."""
        return Telling(self._waiting, lost)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Who waits inside, in one task, gets EngineUnavailable when the engine is lost meanwhile."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as scope:
                with self.telling(lambda: scope.reschedule(loop.time())):
                    yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise EngineUnavailable(LOST, retry_after_seconds=30) from None

    async def close(self) -> None:
        """Stop for good."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        lost_at: deque[float] = deque(maxlen=LOSSES)
        while True:
            problem = await self._once()
            if not self.up.is_set():  # the first start: it would fail again
                return self._end(problem)
            self.losses += 1
            lost_at.append(time.monotonic())
            if len(lost_at) == LOSSES and lost_at[-1] - lost_at[0] < WITHIN_SECONDS:
                return self._end(
                    f"lost {LOSSES} times within {WITHIN_SECONDS / 60:g} minutes, last: {problem}"
                )
            log.error("engine: %s; starting it again", problem)
            await asyncio.sleep(self._pause_seconds)

    async def _once(self) -> str:
        """Open the decoder and look after it until it is lost; why it is."""
        decoder: Decoder | None = None
        try:
            decoder = await self._open_decoder()
            await self._probe(decoder)
            self._decoder = decoder
            self.proved()
            self.up.set()
            return await self._until_lost(decoder)
        except Exception as problem:  # whatever it is, there is no decoder
            return str(problem) or type(problem).__name__
        finally:
            await self._drop(decoder)

    async def _drop(self, decoder: Decoder | None) -> None:
        """Tell whoever waits for it, and close it."""
        self._decoder = None
        for lost in list(self._waiting):
            lost()
        if decoder is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await decoder.close()
        except Exception as problem:
            log.error("engine: it did not close: %s", problem or type(problem).__name__)

    def _end(self, problem: str) -> None:
        self._failure = problem
        log.error("engine: %s", problem)
        self.up.set()
        self.ended.set()

    async def _until_lost(self, decoder: Decoder) -> str:
        while True:
            await asyncio.sleep(self._probe_seconds / 2)
            if time.monotonic() - self._proved_at < self._probe_seconds:
                continue
            try:
                async with asyncio.timeout(self._proof_seconds):
                    await self._probe(decoder)
                self.proved()
            except TimeoutError:
                silent = time.monotonic() - self._proved_at
                if silent >= self._hang_seconds:
                    return f"no token for {silent:.0f} s"
                log.error("engine: no token for %.0f s", silent)

    async def _probe(self, decoder: Decoder) -> None:
        """One real token: the first piece is proof enough."""
        began = time.monotonic()
        prompt = decoder.tokenizer.encode("a") or (0,)
        limits = Limits(max_tokens=1, temperature=0.0)
        async with aclosing(
            decoder.decode(prompt, limits, request_id=f"probe-{time.monotonic_ns()}")
        ) as pieces:
            async for _ in pieces:
                self._observe(time.monotonic() - began)
                return
        raise EngineUnavailable("a probe produced no token")
