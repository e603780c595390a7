"""POST /v1/chat/completions."""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.auth import requires
from server.keys import Key
from server.routes.direct import DirectRoute
from server.routes.generation import generate
from server.sse import chat_frames
from server.wire.chat import chat_body, read_chat

router = APIRouter(route_class=DirectRoute)


@router.post("/v1/chat/completions", response_model=None)
async def create(request: Request, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """Answer a conversation: plain, with worked examples, with retrieved context."""
    return await generate(
        request, key, prefix="chatcmpl-", read=read_chat, body=chat_body, frames=chat_frames
    )
