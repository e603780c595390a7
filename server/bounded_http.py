"""HTTP on a connection, with the bounds that uvicorn has not: a slow head, buffers, hanging up.

A head that comes a byte at a time would hold its connection for ever, and so would a reader who stops
reading: closing a socket politely waits until what is in its buffer has been taken. The kernel would buffer
some 4 MB for such a reader, and tell only after a third of that whether he reads at all.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.gathered_writes import GatheredWrites

HEAD_SECONDS = 30.0
SEND_BYTES = 2**18  # the kernel doubles it
HANG_UP = "fewshot.hang_up"  # in a request's `extensions`: drops the connection with all that is not sent


class BoundedHttp(HttpToolsProtocol):
    """A connection whose requests begin within `head_seconds` of their first byte, or of connecting."""

    head_seconds = HEAD_SECONDS
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, GatheredWrites(transport, self.loop)))
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {HANG_UP: self.transport.abort}
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

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


def hang_up_of(scope: Mapping[str, Any]) -> Callable[[], None] | None:
    """How to drop the connection of this request; None where the server below offers no way."""
    found: Callable[[], None] | None = (scope.get("extensions") or {}).get(HANG_UP)
    return found
