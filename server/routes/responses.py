"""POST /v1/responses, and the routes that read, continue and delete what it stored."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from prompts.records import Message
from server.auth import requires
from server.errors import InvalidValue, NotFound, UnknownUrl, UnsupportedParameter
from server.keys import Key
from server.outlets import Outlet
from server.pipeline import Parts
from server.records import Piece, Plan, Reply, Turn
from server.routes.direct import DirectRoute
from server.routes.generation import context_of, read_asked, respond
from server.sse import frames
from server.stored_responses import StoredResponse, StoredResponses
from server.wire.chat_messages import misplaced
from server.wire.paging import page, read_page
from server.wire.response_events import ResponseEvents
from server.wire.response_items import messages_of
from server.wire.response_objects import response_object, shown
from server.wire.responses import ResponseAsk, read_include, read_response

router = APIRouter(route_class=DirectRoute)
Infer = Annotated[Key, Depends(requires("infer"))]


@router.post("/v1/responses", response_model=None)
async def create(request: Request, key: Infer) -> Response:
    """Answer in OpenAI's newer words: items in, items out, the search an item of its own."""
    parts: Parts = request.state.parts
    store: StoredResponses = request.state.responses
    ask = read_response(await read_asked(request), context_of(request, key, "resp_"))
    if ask.store and not store.keeps:
        raise UnsupportedParameter("this server keeps no responses; leave store out", param="store")
    stored = store.keeps if ask.store is None else ask.store
    turn = await _whole_turn(ask, store, stored=stored)
    if not turn.model:
        turn = replace(turn, model=parts.engine.decoder.profile.name)

    async def keep(reply: Reply) -> dict[str, Any]:
        body = response_object(ask, reply.plan, reply, stored=stored)
        if stored:
            await asyncio.to_thread(
                store.save, key.tenant, StoredResponse(turn.id, ask.previous, ask.items, body)
            )
        return shown(body, ask.include)

    async def kept(reply: Reply) -> None:
        await keep(reply)

    def events(
        plan: Plan,
        pieces: AsyncIterator[Piece],
        reply: Callable[[], Reply],
        *,
        public_url: str,
        first: "asyncio.Future[Piece] | None",
        outlet: Outlet,
    ) -> AsyncGenerator[bytes]:
        return frames(ResponseEvents(ask, plan, stored=stored), pieces, reply, first, outlet, keep=kept)

    return await respond(request, turn, body=keep, frames=events)


@router.get("/v1/responses/{response_id}", response_model=None)
async def retrieve(request: Request, response_id: str, key: Infer) -> Response:
    """A stored response, with the results of its search if `include` asks for them."""
    query = request.query_params
    if query.get("stream", "false") != "false" or "starting_after" in query:
        name = "starting_after" if "starting_after" in query else "stream"
        raise UnsupportedParameter("a stored response is read whole", param=name)
    include = read_include([*query.getlist("include[]"), *query.getlist("include")])
    found = await _found(request, key, response_id)
    return JSONResponse(shown(found.body, include))


@router.delete("/v1/responses/{response_id}", response_model=None)
async def delete(request: Request, response_id: str, key: Infer) -> Response:
    """Gone at once, also for those who would continue it."""
    store: StoredResponses = request.state.responses
    await asyncio.to_thread(store.delete, key.tenant, response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.get("/v1/responses/{response_id}/input_items", response_model=None)
async def input_items(request: Request, response_id: str, key: Infer) -> Response:
    """What was put in, newest first unless told otherwise."""
    asked = read_page(request.query_params)
    found = await _found(request, key, response_id)
    return JSONResponse(page(found.items, asked))


@router.post("/v1/responses/{response_id}/cancel", response_model=None)
async def cancel(response_id: str, _: Infer) -> Response:
    """Always a 400: nothing runs in the background here."""
    raise InvalidValue("responses do not run in the background here, so there is nothing to cancel")


@router.post("/v1/responses/{other}", response_model=None, include_in_schema=False)
async def not_offered(other: str, _: Infer) -> Response:
    """`/responses/input_tokens`, `/responses/compact`: else the look-up's path would make them a 405."""
    raise UnknownUrl("There is no such route. The API is under /v1, without trailing slashes.")


async def _whole_turn(ask: ResponseAsk, store: StoredResponses, *, stored: bool) -> Turn:
    """The turn with the instructions and the turns it continues.

    Raises NotFound for a `previous_response_id` whose chain is not all there, and InvalidValue where a call
    and what it gave do not belong together.
    """
    turn = replace(ask.turn, keep_text=stored, conversation=ask.turn.id if stored else None)
    earlier: list[Message] = []
    if ask.previous is not None:
        try:
            chain = await asyncio.to_thread(store.chain, turn.tenant, ask.previous)
        except NotFound as problem:
            raise NotFound(problem.message, param="previous_response_id") from None
        for link in chain:
            earlier += messages_of(link.items) + messages_of(link.body["output"])
        turn = replace(turn, conversation=chain[0].id)
        if turn.unit_kind == "request":
            turn = replace(turn, unit=chain[0].id, unit_kind="conversation")
    if wrong := misplaced([*earlier, *turn.messages]):
        raise InvalidValue(f"{wrong.problem}; send function_call_output items for them", param="input")
    said = [Message("system", ask.instructions)] if ask.instructions else []
    return replace(turn, messages=(*said, *earlier, *turn.messages))


async def _found(request: Request, key: Key, response_id: str) -> StoredResponse:
    store: StoredResponses = request.state.responses
    return await asyncio.to_thread(store.get, key.tenant, response_id)
