"""Which endpoints are called past FastAPI's dependencies, and that their errors are answered as before."""

import contextlib
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from server.app import create_app
from server.auth import Door, requires
from server.errors import InvalidValue
from server.keys import Key
from server.metrics import Metrics
from server.routes.direct import DirectRoute
from server.wire.handlers import install_error_handlers

Infer = Annotated[Key, Depends(requires("infer"))]
GENERATES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/classify", "/v1/embeddings")


@pytest.fixture
def client() -> TestClient:
    router = APIRouter(route_class=DirectRoute)

    @router.post("/plain")
    async def plain(request: Request, _: Infer) -> Response:
        if await request.body() == b"bug":
            raise LookupError("a bug")
        raise InvalidValue("not this")

    @router.post("/{name}/named")
    async def named(request: Request, name: str, key: Infer) -> Response:
        return Response(f"{name} of {key.tenant}")

    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    opened = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    opened.app_state["door"] = Door(keys=None)
    return opened


def test_what_generates_is_called_at_once():
    app = create_app(lambda: contextlib.nullcontext(None), metrics=Metrics())
    at_once = {
        route.path: route.app.__module__
        for route in app.routes
        if isinstance(route, DirectRoute) and route.methods == {"POST"}
    }
    assert {path: at_once[path] for path in GENERATES} == dict.fromkeys(GENERATES, DirectRoute.__module__)


def test_who_needs_more_gets_it_from_fastapi(client):
    assert client.post("/x/named").text == "x of local"


def test_errors_of_an_endpoint_are_answered_by_the_application(client):
    refused = client.post("/plain")
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "not this")
    assert client.post("/plain", content=b"bug").status_code == 500


def test_the_key_is_asked_for_first(client):
    refused = client.post("/plain", headers={"host": "elsewhere.example"})
    assert refused.status_code == 400
    assert "localhost" in refused.json()["error"]["message"]
