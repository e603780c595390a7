"""Liveness, readiness, version, metrics and the description of the API."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.adapters.registry import Registry
from server.auth import anyone, requires
from server.errors import UnknownUrl
from server.keys import Key
from server.openapi import describe
from server.pipeline import Parts

router = APIRouter()


@router.get("/health", response_model=None, dependencies=[Depends(anyone)])
async def health() -> Response:
    """The process answers; nothing is checked."""
    return JSONResponse({"status": "ok"})


@router.get("/ready", response_model=None, dependencies=[Depends(anyone)])
async def ready(request: Request) -> Response:
    """200 only while tokens really come out of the engine and the catalogue can be read."""
    parts: Parts = request.state.parts
    state = "draining" if parts.admission.draining else parts.engine.state
    adapters: Registry = request.state.adapters
    behind = adapters.behind  # an alias means a version that does not answer here yet
    if state == "ready" and (behind or not await parts.retriever.alive()):
        state = "not_ready"
    return JSONResponse({"status": state}, 200 if state == "ready" else 503)


@router.get("/version", response_model=None)
async def version(request: Request, key: Annotated[Key, Depends(requires("infer"))]) -> Response:
    """What is running: release, engine, embedding model, models."""
    parts: Parts = request.state.parts
    profile = parts.engine.decoder.profile
    return JSONResponse(
        {
            "version": _version(),
            "api": "v1",
            "engine": {"name": profile.engine, "version": profile.engine_version},
            "embedder": request.state.embeddings.name,
            "models": [profile.name, *parts.aliases.of(key.tenant)],
        }
    )


@router.get("/metrics", response_model=None)
async def metrics(request: Request, _: Annotated[Key, Depends(requires("admin"))]) -> Response:
    """Prometheus families; on a port that others can reach, only the loopback metrics port has them."""
    parts: Parts = request.state.parts
    if not request.state.options.metrics_here:
        raise UnknownUrl("metrics are on their own loopback port, see server.metrics_port")
    return Response(parts.metrics.exposition(), media_type="text/plain; version=0.0.4")


def serve_openapi(app: FastAPI) -> None:
    """Add GET /openapi.json, made from the wire models once."""
    document = describe(app)

    @app.get("/openapi.json", response_model=None)
    async def openapi(_: Annotated[Key, Depends(requires("infer"))]) -> Response:
        """This interface as an OpenAPI 3.1 document."""
        return JSONResponse(document)


def _version() -> str:
    from importlib.metadata import version

    return version("fewshot")
