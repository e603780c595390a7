"""What every route needs of the connection: the caller's going away, event streams."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.bounded_http import caller_of, exchange_of, hang_up_of
from server.errors import DeadlineExceeded
from server.outlets import Outlet, Writer
from server.wire.headers import deadline_of, patience_of

T = TypeVar("T")

FIXED = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

log = logging.getLogger("fewshot")


class WhileThere:
    """A block that is cancelled when the caller goes away, or by `end`; then it raises ClientDisconnect.

    Starlette only cancels streaming responses: a plain handler would run to its end for nobody.
    Enter it after the body has been read.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._ending: asyncio.Handle | None = None
        self._ended = False

    async def __aenter__(self) -> "WhileThere":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a caller is waited for within a task")
        self._task, self._cancelling = task, task.cancelling()
        self._forget = _when_gone(self._scope, self._receive, self.end)
        return self

    def end(self) -> None:
        """Cancel what the block does in the loop's next turn, unless it is through by then."""
        if self._ending is None and not self._ended:
            self._ending = self._task.get_loop().call_soon(self._end)

    def _end(self) -> None:
        self._ended = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        if not self._ended:
            self._ended = True  # whoever still tells comes too late
            if self._ending is not None:
                self._ending.cancel()
            return
        # As asyncio.timeout tells its own cancellation from that of others.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller disconnects; the body has been read.

    Raises ClientDisconnect.
    """
    async with WhileThere(request.scope, request.receive):
        return await work


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


def _when_gone(scope: Scope, receive: Receive, told: Callable[[], None]) -> Callable[[], None]:
    """Call `told` when the caller goes; what is returned ends that."""
    gone: asyncio.Event | None = scope.get("state", {}).get("gone")
    if gone is None and (caller := caller_of(scope)) is not None:
        return caller.listen(told)
    # Somebody else may read what the connection says, and tell; else this does.
    waiting = asyncio.ensure_future(_until_disconnect(receive) if gone is None else gone.wait())
    waiting.add_done_callback(lambda ended: None if ended.cancelled() else told())

    def forget() -> None:
        waiting.cancel()

    return forget


class EventStream(Response):
    """Frames as they come; when the caller goes away, or at the end, `close` is awaited at once.

    A caller who takes nothing of what is ready for `stalled_seconds` (or for half of them) has gone away too:
    until then the buffers of a connection (some 0.6 MB) and one frame wait for him, and the engine behind.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        *,
        close: Callable[[], Awaitable[None]],
        stalled_seconds: float,
        outlet: Outlet,
    ) -> None:
        """`outlet` is given the connection to write to, once the answer has begun."""
        self.status_code = 200
        self.background = None
        self._frames = frames
        self._close = close
        self._outlet = outlet
        self._look_seconds = stalled_seconds / 2
        self._handed = self._taken = 0  # frames for which the reader was, or is, waited for
        self._stalled = False
        self.raw_headers = [
            *FIXED,
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._there = WhileThere(scope, receive)
        self._look = asyncio.get_running_loop().call_later(self._look_seconds, self._looked, -1)
        try:
            async with self._there:
                # In a task of its own: woken here, every event would pass the fifteen layers that called.
                await asyncio.create_task(self._send(send, exchange_of(scope)))
        except (ClientDisconnect, OSError):
            pass  # nobody to tell
        finally:
            self._look.cancel()
            await self._close()  # a generator that never started does not run its own clean-up
        if self._stalled:
            log.info("a stream was dropped: its reader took nothing for %g s", self._look_seconds)
            if hang_up := hang_up_of(scope):
                hang_up()
                await asyncio.sleep(0)  # the server learns of it before this request ends

    def _looked(self, handed: int) -> None:
        """Whether the reader has taken anything since `handed` frames were handed to him."""
        if handed == self._handed and self._taken < handed:
            self._stalled = True
            self._there.end()
            return
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(self._look_seconds, self._looked, self._handed)

    async def _send(self, send: Send, writer: Writer | None) -> None:
        async with aclosing(self._frames) as frames:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._outlet.writer = writer
            async for frame in frames:
                if writer is not None and frame and writer.write(frame):
                    continue
                self._handed += 1
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                self._taken += 1
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
