"""POST /v1/embeddings."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from server.auth import requires
from server.errors import ContextTooLong, ModelNotFound
from server.keys import Key
from server.routes.bodies import read_json_bytes
from server.routes.connection import in_time
from server.routes.direct import DirectRoute
from server.routes.granting import grant
from server.seams import Embeddings
from server.wire.embeddings import EmbeddingAsk, embedding_body, read_embedding

router = APIRouter(route_class=DirectRoute)


@router.post("/v1/embeddings", response_model=None)
async def create(request: Request, _: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """Unit vectors of texts, by the model that the stores use."""
    embeddings: Embeddings = request.state.embeddings
    options = request.state.options
    ask = read_embedding(
        await read_json_bytes(request, options.body_bytes),
        dimension=embeddings.dimension,
        unknown_fields=options.unknown_fields,
    )
    if ask.model != embeddings.name:
        raise ModelNotFound(
            f"no embedding model {ask.model!r}; this server has {embeddings.name!r}", param="model"
        )
    return await in_time(request, _embed(request, ask, embeddings))


async def _embed(request: Request, ask: EmbeddingAsk, embeddings: Embeddings) -> Response:
    tokens = await embeddings.count(ask.inputs)
    allowance = grant(request, sum(tokens))
    used = 0
    try:
        response = await _vectors(ask, embeddings, tokens)
        used = sum(tokens)
        return response
    finally:
        allowance.settle(used)


async def _vectors(ask: EmbeddingAsk, embeddings: Embeddings, tokens: list[int]) -> Response:
    for place, number in enumerate(tokens):
        if number > embeddings.max_tokens:
            raise ContextTooLong(
                f"input {place} has {number} tokens; {embeddings.name} takes {embeddings.max_tokens}, and "
                "nothing is cut silently: split it",
                param=f"input[{place}]",
            )
    vectors = await embeddings.embed(ask.inputs, as_query=ask.input_type == "query")
    body = embedding_body(ask, vectors, tokens=sum(tokens))
    return Response(orjson.dumps(body), media_type="application/json")
