"""POST /v1/completions."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.auth import requires
from server.keys import Key
from server.routes.direct import DirectRoute
from server.routes.generation import generate
from server.sse import completion_frames
from server.wire.completions import completion_body, read_completion

router = APIRouter(route_class=DirectRoute)


@router.post("/v1/completions", response_model=None)
async def create(request: Request, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """Continue raw text or token ids; with a template or store, answer a question."""
    return await generate(
        request,
        key,
        prefix="cmpl-",
        read=read_completion,
        body=completion_body,
        frames=completion_frames,
    )
