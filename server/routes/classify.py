"""POST /v1/classify."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.auth import requires
from server.classifying import AT_ONCE, Classification, Labels, classify
from server.keys import Key
from server.pipeline import Parts
from server.routes.connection import unless_gone
from server.routes.direct import DirectRoute
from server.routes.generation import context_of, read_asked
from server.routes.granting import estimate, place
from server.wire.classify import classify_body, read_classify
from server.wire.headers import fewshot_headers

router = APIRouter(route_class=DirectRoute)


@router.post("/v1/classify", response_model=None)
async def create(request: Request, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """Labels of texts with calibrated probabilities, by a template that declares them."""
    asked = read_classify(await read_asked(request), context_of(request, key, "clsf-"))
    labels = await unless_gone(request, _admitted(request, asked))
    body = orjson.dumps(classify_body(labels))
    return Response(body, media_type="application/json", headers=fewshot_headers(labels.plan))


async def _admitted(request: Request, asked: Classification) -> Labels:
    parts: Parts = request.state.parts
    turn = asked.turn
    tokens = estimate(turn, output_tokens=0)
    ticket, _ = await place(
        request,
        tokens=tokens,
        weight=min(len(turn.prompts), AT_ONCE),
        deadline_seconds=turn.deadline_seconds,
    )
    used = 0
    try:
        labels = await classify(asked, ticket, parts)
        used = labels.usage.prompt_tokens
        return labels
    finally:
        request.state.exposed = ticket.exposed
        ticket.leave(used)
