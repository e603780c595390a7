"""The FastAPI application: lifespan, routers, error handlers; nothing else."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HTTPRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.adapters.registry import Registry
from server.adapters.shelf import Shelf
from server.auth import Door, anyone
from server.bounded_http import is_surplus
from server.corpora import Corpora
from server.deciding import Desk
from server.errors import QueueFull
from server.feedback import Feedback
from server.ids import drawn
from server.metrics import Metrics
from server.network_settings import STALLED_SECONDS
from server.observing import Observer, Request
from server.pipeline import Parts
from server.routes import (
    adapters,
    chat,
    classify,
    completions,
    embeddings,
    experiments,
    feedback,
    files,
    mcp_server,
    models,
    replay,
    responses,
    status,
    store_files,
    vector_stores,
)
from server.routes.bodies import Bodies
from server.seams import Embeddings
from server.stored_responses import StoredResponses
from server.wire.handlers import error_response, install_error_handlers
from server.wire.headers import EXPOSED, ratelimit_headers

TOLD = (b"x-request-id", b"x-fewshot-id")  # of an answer's headers, those that others want to know
UNCONDITIONAL = ("/health", "/ready")  # a server that is full is not one that is down


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What routes need to know that is no part: plain values."""

    body_bytes: int = 4 * 2**20
    unit_header: str | None = None
    unknown_fields: Literal["refuse", "report"] = "refuse"
    bodies: Bodies = field(default_factory=Bodies)  # counts those that are being read
    stalled_seconds: float = STALLED_SECONDS  # a stream whose reader takes nothing for so long is dropped
    metrics_here: bool = True  # /metrics on this port; only where the port is loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Everything the app runs on, open."""

    parts: Parts
    door: Door
    embeddings: Embeddings
    corpora: Corpora
    responses: StoredResponses
    feedback: Feedback
    adapters: Registry
    shelf: Shelf
    desk: Desk
    options: Options


OpenParts = Callable[[], AbstractAsyncContextManager[Opened]]


def create_app(
    open_parts: OpenParts,
    *,
    metrics: Metrics,
    openapi: bool = True,
    cors_origins: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> FastAPI:
    """The app over whatever `open_parts` opens; it is closed again when the app shuts down.

    Pages of `cors_origins` (`https://host:port`, or `*`) may call it from a browser; without any, none may.
    Each of the observers hears of every request.
    Raises RuntimeError when a route declares no scope: nothing is served by accident.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        async with (
            open_parts() as opened,
            mcp_server.sessions(body_bytes=opened.options.body_bytes) as sessions,
        ):
            yield {
                "mcp": sessions,
                "parts": opened.parts,
                "door": opened.door,
                "embeddings": opened.embeddings,
                "corpora": opened.corpora,
                "responses": opened.responses,
                "feedback": opened.feedback,
                "adapters": opened.adapters,
                "shelf": opened.shelf,
                "desk": opened.desk,
                "options": opened.options,
            }

    app = FastAPI(
        title="Fewshot",
        version="v1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    for routes in (
        chat,
        completions,
        classify,
        responses,
        feedback,
        experiments,
        replay,
        embeddings,
        models,
        status,
        files,
        vector_stores,
        store_files,
        mcp_server,
        adapters,
    ):
        app.include_router(routes.router)
    if openapi:
        status.serve_openapi(app)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=list(EXPOSED),
        )
    app.add_middleware(Surplus, metrics=metrics)
    app.add_middleware(Accounting, metrics=metrics, observers=observers)
    refuse_undeclared(app)
    return app


def refuse_undeclared(app: FastAPI) -> None:
    """Default deny: every route names the scope it needs, or `anyone`."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            calls = [dependency.call for dependency in route.dependant.dependencies]
            if not any(call is anyone or hasattr(call, "scope") for call in calls):
                raise RuntimeError(
                    f"route {route.path} declares no scope: use auth.requires(...) or auth.anyone"
                )


class Surplus:
    """Turns away who came while every connection was at work; whoever asks after the server is answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_surplus(scope) or scope["path"] in UNCONDITIONAL:
            await self._app(scope, receive, send)
            return
        self._metrics.rejected.labels("queue_full").inc()
        full = QueueFull("too many connections are open; ask again later", retry_after_seconds=1)
        refusal = error_response(HTTPRequest(scope), full, {"connection": "close"})
        await refusal(scope, receive, send)


class Accounting:
    """Request ids and request metrics, as plain ASGI: a chunk of a stream costs one function call here."""

    def __init__(self, app: ASGIApp, metrics: Metrics, observers: Sequence[Observer] = ()) -> None:
        self._app = app
        self._metrics = metrics
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{drawn().hex()}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 499  # unless an answer starts
        turn: str | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status, turn
            if message["type"] == "http.response.start":
                status = message["status"]
                found = {name: value for name, value in message["headers"] if name in TOLD}
                headers = MutableHeaders(scope=message)
                if b"x-request-id" not in found:
                    headers.raw.append((b"x-request-id", request_id.encode()))
                if (named := found.get(b"x-fewshot-id")) is not None:
                    turn = named.decode("latin-1")
                if (counts := scope["state"].get("standings")) and (
                    said := counts()
                ):  # of a route that counts
                    headers.update(ratelimit_headers(said))
            await send(message)

        began = time.perf_counter()
        self._metrics.in_flight.inc()
        ends = [observer(scope) for observer in self._observers]
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            seconds = time.perf_counter() - began
            self._metrics.answered(route, scope["method"], status, seconds)
            self._metrics.in_flight.dec()
            for end in reversed(ends):
                end(Request(request_id, scope["method"], route, status, seconds, turn))
