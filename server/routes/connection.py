"""What every route needs of the connection: the caller's going away, event streams."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.bounded_http import hang_up_of, writer_of
from server.errors import DeadlineExceeded
from server.wire.headers import deadline_of, patience_of

T = TypeVar("T")

log = logging.getLogger("fewshot")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller disconnects.

    Starlette only cancels streaming responses: a plain handler would run to its end for nobody.
    Call it after the body has been read. Raises ClientDisconnect.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def in_time(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless the caller goes, or the time is over that it gave or waits itself.

    Raises DeadlineExceeded, InvalidValue for a time that is none, ClientDisconnect.
    """
    try:
        known = deadline_of(request.headers), patience_of(request.headers)
    except BaseException:
        work.close()
        raise
    try:
        async with asyncio.timeout(min((one for one in known if one is not None), default=None)):
            return await unless_gone(request, work)
    except TimeoutError:
        raise DeadlineExceeded("this did not end within the request's deadline; ask for less") from None


async def _disconnected(request: Request) -> None:
    gone: asyncio.Event | None = getattr(request.state, "gone", None)
    if gone is not None:  # somebody else reads what the connection says, and tells
        await gone.wait()
        return
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Frames as they come; when the caller goes away, or at the end, `close` is awaited at once.

    A caller who takes nothing of what is ready for `stalled_seconds` (or for half of them) has gone away too:
    until then the buffers of a connection (some 0.6 MB) and one frame wait for him, and the engine behind.
    """

    media_type = "text/event-stream; charset=utf-8"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        *,
        close: Callable[[], Awaitable[None]],
        stalled_seconds: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._frames = frames
        self._close = close
        self._look_seconds = stalled_seconds / 2
        self._handed = self._taken = 0  # frames
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send, writer_of(scope)))
        gone = asyncio.ensure_future(_until_disconnect(receive))
        stalled = False
        try:
            stalled = await self._watched(sending, gone)
        finally:
            for task in (sending, gone):
                task.cancel()
            results = await asyncio.gather(sending, gone, return_exceptions=True)
            await self._close()  # a generator that never started does not run its own clean-up
        if stalled:
            log.info("a stream was dropped: its reader took nothing for %g s", self._look_seconds)
            if hang_up := hang_up_of(scope):
                hang_up()
                await asyncio.sleep(0)  # the server learns of it before this request ends
            return
        if isinstance(results[0], Exception) and not isinstance(results[0], OSError):
            raise results[0]

    async def _watched(self, sending: "asyncio.Task[None]", gone: "asyncio.Task[None]") -> bool:
        """Wait until all is sent or the caller has gone; True when he stopped reading."""
        handed = -1
        while True:
            done, _ = await asyncio.wait(
                {sending, gone}, timeout=self._look_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return False
            if handed == self._handed and self._taken < handed:
                return True
            handed = self._handed

    async def _send(self, send: Send, write: Callable[[bytes], bool] | None) -> None:
        async with aclosing(self._frames) as frames:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for frame in frames:
                self._handed += 1
                if write is None or not frame or not write(frame):
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
                self._taken += 1
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
