"""GET /v1/models: the base model first, what is loaded beside it, the tenant's aliases, the embedder."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.adapters.registry import Registry
from server.auth import requires
from server.errors import ModelNotFound
from server.keys import Key
from server.pipeline import Parts
from server.seams import Embeddings
from server.wire.models import adapter_model, alias_object, embedding_object, model_list, model_object

router = APIRouter()


@router.get("/v1/models", response_model=None)
async def list_models(request: Request, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """What may be named as `model`: the base model first, then aliases, then the embedding model."""
    return JSONResponse(model_list(_models(request, key)))


@router.get("/v1/models/{name:path}", response_model=None)
async def retrieve(request: Request, name: str, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """One of them by its name."""
    models = _models(request, key)
    for model in models:
        if model["id"] == name:
            return JSONResponse(model)
    raise ModelNotFound(
        f"the model {name!r} does not exist; there are {', '.join(model['id'] for model in models)}",
        param="model",
    )


def _models(request: Request, key: Key) -> list[dict[str, Any]]:
    parts: Parts = request.state.parts
    embeddings: Embeddings = request.state.embeddings
    profile = parts.engine.decoder.profile
    adapters: Registry = request.state.adapters
    return [
        model_object(profile),
        *(adapter_model(name, live, profile) for name, live in adapters.names().items()),
        *(alias_object(alias, profile) for alias in parts.aliases.of(key.tenant).values()),
        embedding_object(embeddings.name, created=profile.created),
    ]
