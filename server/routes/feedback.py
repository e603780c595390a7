"""POST /v1/feedback."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.auth import requires
from server.feedback import Feedback
from server.keys import Key
from server.routes.durable import Attempt, of_json, once
from server.routes.generation import read_asked
from server.wire.feedback import feedback_object, read_feedback

router = APIRouter()


@router.post("/v1/feedback", response_model=None)
async def create(request: Request, key: Annotated[Key, Depends(requires("feedback"))]) -> Response:
    """What somebody thought of an answer; a second value of the same key replaces the first."""
    feedback: Feedback = request.state.feedback
    body = await read_asked(request)
    opinion = read_feedback(body, request.state.options.unknown_fields)

    async def take(_: Attempt) -> Response:
        taken = await asyncio.to_thread(feedback.take, key.tenant, key.prefix, opinion)
        request.state.parts.metrics.judged(opinion.metric, taken.experiment, taken.arm)
        return JSONResponse(feedback_object(taken))

    return await once(request, key, of_json(body), take)
