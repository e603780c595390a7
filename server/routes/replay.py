"""/v1/replay/{id}: what the journal holds of an answer, and the same tokens decoded again."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.auth import requires
from server.corpora import Corpora
from server.errors import InvalidValue
from server.keys import Key
from server.pipeline import Parts
from server.replay import Record
from server.replaying import Remains, Replay, find_record, remains_of, replay
from server.routes.connection import unless_gone
from server.routes.generation import context_of, read_asked
from server.routes.granting import place
from server.wire.replay import record_object, replay_object

router = APIRouter()
Auditor = Annotated[Key, Depends(requires("audit"))]


@router.get("/v1/replay/{response_id}", response_model=None)
async def show(request: Request, response_id: str, key: Auditor) -> Response:
    """Everything that was written down of a chat, completion or response."""
    record, remains = await _found(request, response_id, key)
    return _answer(record_object(record, remains))


@router.post("/v1/replay/{response_id}", response_model=None)
async def again(request: Request, response_id: str, key: Auditor) -> Response:
    """Decode the recorded tokens again and compare. Counts against the key's limits as any generation."""
    if (await read_asked(request)).strip() not in (b"", b"{}"):
        raise InvalidValue("a replay takes no options; send no body")
    record, remains = await _found(request, response_id, key)
    done = await unless_gone(request, _replayed(request, record, remains))
    decoder = request.state.parts.engine.decoder
    apart = done.difference
    tokens = [] if apart is None else [apart.original, apart.replayed]
    read = {token: decoder.tokenizer.decode([token]) for token in tokens if token is not None}
    return _answer(replay_object(done, read))


async def _found(request: Request, response_id: str, key: Key) -> tuple[Record, Remains]:
    parts: Parts = request.state.parts
    corpora: Corpora = request.state.corpora
    record = await find_record(response_id, key.tenant, parts)
    return record, await remains_of(record, parts, corpora)


async def _replayed(request: Request, record: Record, remains: Remains) -> Replay:
    parts: Parts = request.state.parts
    weight = record.limits.n * max(len(record.prompts or ()), 1)
    tokens = record.prompt_tokens + weight * record.limits.max_tokens
    context = context_of(request, request.state.key, "replay-")
    ticket, _ = await place(
        request, tokens=tokens, weight=weight, deadline_seconds=context.deadline_for(stream=False)
    )
    used = 0
    try:
        done = await replay(record, remains, ticket, parts)
        if done.replayed is not None:
            used = record.prompt_tokens + sum(len(said.tokens) for said in done.replayed)
        return done
    finally:
        ticket.leave(used)


def _answer(body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
