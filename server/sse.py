"""Pieces → server-sent events (openai-surface §5.4, §6; the events of responses, §7.4, have their own order).

    : ping     every 15 s, until the first piece exists
    opening    chat: one chunk a choice with the role, in index order; the very first carries `fewshot`
    deltas     text and log-probabilities as they come
    closing    one chunk a choice; the last one carries `fewshot` again, now complete
    counts     with include_usage; nothing follows but
    [DONE]

A failure on the way is one frame with an `error` object, and no [DONE]: the status is long sent.

All but the text of a delta is the same for a whole choice, so it is rendered once: `server/wire/*_chunks.py`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol

import orjson

from server.outlets import Outlet
from server.records import Piece, Plan, Reply, Usage
from server.wire.answers import usage_object
from server.wire.chat_chunks import ChatChunks
from server.wire.completion_chunks import CompletionChunks
from server.wire.problems import problem_of
from server.wire.provenance import fewshot_object

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream; charset=utf-8"
HEADERS: Mapping[str, str] = {"cache-control": "no-cache", "x-accel-buffering": "no"}
PING_SECONDS = 15.0
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
NO_USAGE = b"null"


class Chunks(Protocol):
    """One route's wording of a stream. Every method returns whole frames, or nothing."""

    choices: int

    def opening(self, usage: bytes) -> bytes: ...

    def delta(self, piece: Piece, usage: bytes) -> bytes: ...

    def closing(self, piece: Piece, usage: bytes, extra: bytes = b"") -> bytes: ...

    def counts(self, usage: bytes) -> bytes: ...


class Stream(Protocol):
    """What a stream remembers between two pieces. Every method returns whole frames, or nothing."""

    def open(self, piece: Piece) -> bytes: ...

    def take(self, piece: Piece) -> bytes: ...

    def close(self, reply: Reply) -> bytes: ...

    def failure(self, error: Exception) -> bytes: ...


def chat_frames(
    plan: Plan,
    pieces: AsyncIterator[Piece],
    reply: Callable[[], Reply],
    *,
    public_url: str = "",
    first: asyncio.Future[Piece] | None = None,
    outlet: Outlet | None = None,
    ping_seconds: float = PING_SECONDS,
) -> AsyncGenerator[bytes]:
    """The body of a streamed chat answer.

    `reply` is called once, after the last piece. `first` is the first piece when somebody already waits for
    it; otherwise it is awaited in a task of its own, so `pieces` must not hold a timeout or cancel scope open
    across a yield (PEP 789). Closing the iterator closes `pieces`, which aborts the engine request.
    `outlet` learns how pieces are framed that are not to wait for this generator's turn.
    """
    return frames(_Chunked(plan, ChatChunks(plan, public_url)), pieces, reply, first, outlet, ping_seconds)


def completion_frames(
    plan: Plan,
    pieces: AsyncIterator[Piece],
    reply: Callable[[], Reply],
    *,
    public_url: str = "",
    first: asyncio.Future[Piece] | None = None,
    outlet: Outlet | None = None,
    ping_seconds: float = PING_SECONDS,
) -> AsyncGenerator[bytes]:
    """The body of a streamed completion, on the terms of `chat_frames`; `public_url` has no use here."""
    return frames(_Chunked(plan, CompletionChunks(plan)), pieces, reply, first, outlet, ping_seconds)


async def frames(
    stream: Stream,
    pieces: AsyncIterator[Piece],
    reply: Callable[[], Reply],
    first: asyncio.Future[Piece] | None = None,
    outlet: Outlet | None = None,
    ping_seconds: float = PING_SECONDS,
    *,
    keep: Callable[[Reply], Awaitable[None]] | None = None,
) -> AsyncGenerator[bytes]:
    """The body of a stream, on the terms of `chat_frames`; `keep` is awaited before the end is told."""
    first = first or asyncio.ensure_future(anext(pieces))
    try:
        while not first.done() and not (await asyncio.wait({first}, timeout=ping_seconds))[0]:
            yield PING
        if opened := stream.open(first.result()):
            yield opened
        if outlet is not None:
            outlet.framed = stream.take
        async for piece in pieces:
            if said := stream.take(piece):
                yield said
        ended = reply()
        if keep is not None:
            await keep(ended)
        yield stream.close(ended)
    except Exception as error:
        if problem_of(error).is_bug:
            log.error("a stream failed after its first byte", exc_info=error)
        yield stream.failure(error)
    finally:
        if not first.done():
            first.cancel()
            with suppress(asyncio.CancelledError):
                await first
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


class _Chunked:
    """The streams of chat and completions: same order, each with its own chunks."""

    def __init__(self, plan: Plan, chunks: Chunks) -> None:
        self._plan = plan
        self._chunks = chunks
        self._delta = chunks.delta
        self._continuous = plan.turn.continuous_usage
        self._unfinished = chunks.choices
        self._last: Piece | None = None  # ends the last choice: held back until `fewshot` is complete
        self._tokens = 0
        self._cached = 0

    def open(self, piece: Piece) -> bytes:
        opening = self._chunks.opening(self._usage())
        return opening + self.take(piece)

    def take(self, piece: Piece) -> bytes:
        if piece.finish is None and not self._continuous:  # nearly every token
            return self._delta(piece, NO_USAGE)
        usage = NO_USAGE
        if self._continuous:
            self._tokens += len(piece.tokens)
            self._cached = max(self._cached, piece.cached_tokens)
            usage = self._usage()
        frames = self._delta(piece, usage)
        if piece.finish is None:
            return frames
        self._unfinished -= 1
        if self._unfinished:
            return frames + self._chunks.closing(piece, usage)
        self._last = piece
        return frames

    def close(self, reply: Reply) -> bytes:
        if self._last is None:
            raise RuntimeError(f"pieces ended with {self._unfinished} unfinished choices")
        usage = orjson.dumps(usage_object(reply.usage))
        extra = b',"fewshot":' + orjson.dumps(fewshot_object(self._plan, reply))
        end = self._chunks.closing(self._last, usage if self._continuous else NO_USAGE, extra)
        if self._plan.turn.include_usage:
            end += self._chunks.counts(usage)
        return end + DONE

    def _usage(self) -> bytes:
        if not self._continuous:
            return NO_USAGE
        counts = Usage(
            prompt_tokens=self._plan.prompt_tokens,
            completion_tokens=self._tokens,
            cached_tokens=self._cached,
        )
        return orjson.dumps(usage_object(counts))

    def failure(self, error: Exception) -> bytes:
        return b"data: " + orjson.dumps(problem_of(error).body()) + b"\n\n"
