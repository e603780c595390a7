"""HTTP on a connection, with the bounds that uvicorn has not: how many, a slow head, buffers, hanging up.

A head that comes a byte at a time would hold its connection for ever, and so would a reader who stops
reading: closing a socket politely waits until what is in its buffer has been taken. The kernel would buffer
some 4 MB for such a reader, and tell only after a third of that whether he reads at all.

One connection more than `most` takes the place of the one that has said nothing for longest: nobody who only
holds connections keeps others out. Where all are at work, the newcomer's request is marked as surplus.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.gathered_writes import GatheredWrites, TurnsEnd
from server.network_settings import HEAD_SECONDS, MOST_CONNECTIONS

SEND_BYTES = 2**18  # the kernel doubles it
SURPLUS = "fewshot.surplus"  # in a request's `extensions`: it came when all connections were at work
EXCHANGE = "fewshot.exchange"  # there too: what stands behind all layers, see `Exchange`
HANG_UP = "fewshot.hang_up"  # in a request's `extensions`: drops the connection with all that is not sent
CALLER = "fewshot.caller"  # there too: who asks, and whether he is still there


class BoundedHttp(HttpToolsProtocol):
    """A connection whose requests begin within `head_seconds` of their first byte, or of connecting."""

    head_seconds = HEAD_SECONDS
    most = MOST_CONNECTIONS
    _surplus = False
    _head: asyncio.TimerHandle | None = None
    _caller: "Caller"  # of all requests of this connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, GatheredWrites(transport, self._turns_end)))
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self._caller = Caller()
        if len(self.connections) > self.most:
            self._make_room()
        self._silent[self] = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._silent.pop(self, None)
        super().connection_lost(exc)
        self._caller.leave()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {
            CALLER: self._caller,
            HANG_UP: self.transport.abort,
            SURPLUS: self._surplus and len(self.connections) > self.most,
        }
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        self._silent.pop(self, None)
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            cast(dict[str, Any], self.scope)["extensions"][EXCHANGE] = Exchange(self.cycle)

    def on_response_complete(self) -> None:
        if not self.pipeline and not self.transport.is_closing():
            self._silent[self] = None
        super().on_response_complete()

    @property
    def _silent(self) -> dict["BoundedHttp", None]:
        """The server's connections on which no request is at work, the longest silent one first."""
        silent: dict[BoundedHttp, None] = self.server_state.__dict__.setdefault("silent", {})
        return silent

    @property
    def _turns_end(self) -> TurnsEnd:
        """Of all connections of the server."""
        state = self.server_state.__dict__
        found: TurnsEnd | None = state.get("turns_end")
        if found is None:
            found = state["turns_end"] = TurnsEnd(self.loop)
        return found

    def _make_room(self) -> None:
        longest = next(iter(self._silent), None)
        if longest is None:
            self._surplus = True
            return
        del self._silent[longest]
        self.connections.discard(longest)  # not only when the loop comes to it
        longest.transport.abort()

    def _await_head(self) -> None:
        self._head_came()
        self._head = self.loop.call_later(self.head_seconds, self._too_slow)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # an answer to an earlier request is on its way
        else:
            self.transport.abort()


class Caller:
    """Who is at the other end of a connection, for those who want to hear of his going.

    Cheaper than a task that waits for the message `http.disconnect`, and heard of while others read.
    """

    def __init__(self) -> None:
        self.gone = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` when he goes, at once where he has gone; what is returned ends that."""
        if self.gone:
            told()
        self._listeners.append(told)
        return partial(self._listeners.remove, told)

    def leave(self) -> None:
        self.gone = True
        for told in tuple(self._listeners):
            told()


class Exchange:
    """A request and its answer as the connection has them.

    It writes chunks of an answer that has begun, for streams of many small ones: between a route and the
    connection stand some five `send`s that look at nothing but an answer's beginning and end, and each costs
    a token what its whole frame costs.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._write_chunk = cast(GatheredWrites, cycle.transport).write_chunk

    @property
    def arrived(self) -> bool:
        """Whether the whole body is here, so that nobody will wait for it."""
        return not self._cycle.more_body

    @property
    def open(self) -> bool:
        """False where `send` has to write: nothing has begun, no chunks, or the reader is behind."""
        cycle = self._cycle
        return bool(cycle.chunked_encoding) and not (cycle.response_complete or cycle.flow.write_paused)

    def write(self, data: bytes) -> bool:
        """Whether it was open. Dropped where the caller has gone."""
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.response_complete or cycle.flow.write_paused:
            return False  # as `open`; for many a token, so without a call more
        if not cycle.disconnected:
            self._write_chunk(data)
        return True


def exchange_of(scope: Mapping[str, Any]) -> Exchange | None:
    """The request as its connection has it; None where the server below does not tell."""
    found: Exchange | None = (scope.get("extensions") or {}).get(EXCHANGE)
    return found


def caller_of(scope: Mapping[str, Any]) -> Caller | None:
    """Who sent this request; None where the server below does not tell."""
    found: Caller | None = (scope.get("extensions") or {}).get(CALLER)
    return found


def hang_up_of(scope: Mapping[str, Any]) -> Callable[[], None] | None:
    """How to drop the connection of this request; None where the server below offers no way."""
    found: Callable[[], None] | None = (scope.get("extensions") or {}).get(HANG_UP)
    return found


def is_surplus(scope: Mapping[str, Any]) -> bool:
    """Whether this request came when all connections were at work."""
    return bool((scope.get("extensions") or {}).get(SURPLUS))


def bounded_http(*, most: int, head_seconds: float) -> type[BoundedHttp]:
    """The protocol with these bounds."""
    return type("BoundedHttp", (BoundedHttp,), {"most": most, "head_seconds": head_seconds})
