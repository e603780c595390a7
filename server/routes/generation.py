"""What the routes that generate text share: body → turn → place → plan → answer, streamed or whole."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.admission import Ticket
from server.answering import Answer
from server.ids import new_id
from server.keys import Key
from server.outlets import Outlet
from server.pipeline import Parts, answer, prepare
from server.records import Piece, Plan, Reply, Turn
from server.routes.bodies import read_json_bytes
from server.routes.connection import EventStream, WhileThere
from server.routes.granting import estimate, place
from server.wire.headers import deadline_of, fewshot_headers, meant, noted_of, patience_of
from server.wire.reading import Context

FIRST_PIECE_SECONDS = 15.0  # until then the status can still tell of a failure; after it, pings do


class Frames(Protocol):
    def __call__(
        self,
        plan: Plan,
        pieces: AsyncIterator[Piece],
        reply: Callable[[], Reply],
        *,
        public_url: str,
        first: "asyncio.Future[Piece] | None",
        outlet: Outlet,
    ) -> AsyncGenerator[bytes]: ...


async def generate(
    request: Request,
    key: Key,
    *,
    prefix: str,
    read: Callable[[bytes, Context], Turn],
    body: Callable[[Reply, str], dict[str, Any]],
    frames: Frames,
) -> Response:
    """The whole life of one generation request."""
    turn = read(await read_asked(request), context_of(request, key, prefix))

    async def whole(reply: Reply) -> dict[str, Any]:
        return body(reply, request.scope["state"]["parts"].public_url)

    return await respond(request, turn, body=whole, frames=frames)


async def read_asked(request: Request) -> bytes:
    """The JSON body, which may be asked for again; at first, when it is this request's turn to begin."""
    state = request.scope["state"]
    body: bytes | None = state.get("asked")
    if body is None:
        body = await read_json_bytes(request, state["options"].body_bytes)
        state["asked"] = body
        await state["parts"].pacing.begin()
    return body


async def respond(
    request: Request, turn: Turn, *, body: Callable[[Reply], Awaitable[dict[str, Any]]], frames: Frames
) -> Response:
    """Admission, plan, answer; streamed by `frames`, or whole by `body`, which may take its time."""
    if not turn.stream:
        reply = await replied(request, turn)
        said = orjson.dumps(await body(reply))
        return Response(said, media_type="application/json", headers=fewshot_headers(reply.plan))
    state = request.scope["state"]
    outlet = Outlet()
    async with Begun(state) as begun, WhileThere(request.scope, request.receive):
        plan, answering = await begun.planned(request, turn)
        opened = Opened(answering, outlet)
        try:
            await opened.settled()
        except BaseException:
            await opened.close()
            raise
    public_url = state["parts"].public_url
    streamed = frames(
        plan, opened.pieces, answering.reply, public_url=public_url, first=opened.first, outlet=outlet
    )
    return EventStream(
        streamed,
        fewshot_headers(plan),
        close=opened.close,
        stalled_seconds=state["options"].stalled_seconds,
        outlet=outlet,
    )


async def replied(request: Request, turn: Turn) -> Reply:
    """Admission, plan, answer: the whole of it, for those who give it another form."""
    async with Begun(request.scope["state"]) as begun, WhileThere(request.scope, request.receive):
        _, answering = await begun.planned(request, turn)
        return await _whole(answering)


class Planned(NamedTuple):
    plan: Plan
    answering: Answer


class Begun:
    """A block in which a turn gets a place in the engine and a plan.

    Its answer gives the place back at its end, and so does any error that leaves the block.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._ticket: Ticket | None = None

    async def __aenter__(self) -> "Begun":
        return self

    async def planned(self, request: Request, turn: Turn) -> Planned:
        """Raises what `place` and `prepare` raise."""
        parts: Parts = self._state["parts"]
        weight = turn.n * max(len(turn.prompts), 1)
        tokens = estimate(turn, parts.output_tokens)
        self._ticket, allowance = await place(
            request, tokens=tokens, weight=weight, deadline_seconds=turn.deadline_seconds
        )
        prepared = await prepare(turn, self._ticket, parts)
        plan = prepared.plan
        allowance.expect(plan.prompt_tokens + weight * plan.limits.max_tokens)
        return Planned(plan, answer(prepared, self._ticket, parts))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._ticket is not None:
            self._state["exposed"] = self._ticket.exposed
            self._ticket.leave()  # also where the stream never began, and so could not give it back


class Opened:
    """A stream whose first piece is on its way."""

    def __init__(self, answering: Answer, outlet: Outlet) -> None:
        self.pieces = answering.pieces(outlet)
        self.first: asyncio.Future[Piece] = asyncio.ensure_future(anext(self.pieces))

    async def settled(self) -> None:
        """Wait for the first piece, but not longer than a caller waits without a sign of life.

        Raises what decoding raised before its first piece: the status can still tell.
        """
        done, _ = await asyncio.wait({self.first}, timeout=FIRST_PIECE_SECONDS)
        if done:
            self.first.result()

    async def close(self) -> None:
        """Abort whatever still runs; harmless after the end."""
        if not self.first.done():
            self.first.cancel()
            await asyncio.wait({self.first})
        if not self.first.cancelled():
            self.first.exception()  # told already, or nobody is there to be told
        await self.pieces.aclose()


async def _whole(answering: Answer) -> Reply:
    async with aclosing(answering.pieces()) as pieces:
        async for _ in pieces:
            pass
    return answering.reply()


def context_of(request: Request, key: Key, prefix: str) -> Context:
    state = request.scope["state"]
    parts: Parts = state["parts"]
    options = state["options"]
    header = options.unit_header
    headers = meant(request.scope["headers"])
    return Context(
        id=new_id(prefix),
        created=int(time.time()),
        tenant=key.tenant,
        scopes=key.scopes,
        unit_header=request.headers.get(header) if header else None,
        noted=noted_of(headers),
        deadline=deadline_of(headers),
        patience=patience_of(headers),
        unknown_fields=options.unknown_fields,
        aliases=parts.aliases.of(key.tenant),
    )
