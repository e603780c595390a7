"""Every route of the app × every state of a key × the ways to write its address."""

import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from server.app import create_app
from server.keys import SCOPES
from server.metrics import Metrics
from server.schema import keys as table

NAMES = {
    "adapter_id": "polite@0123456789ab",
    "file_id": "file-01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "store_id": "vs_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "batch_id": "vsfb_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "response_id": "resp_01ARZ3NDEKTSV4RRFFQ69G5FAV",
}
NOBODY = b'{"error":{"message":"the API key is missing or not valid; send `Authorization: Bearer <key>`",'


def routes():
    """(method, path, scope) of every route; scope None: open to anyone."""
    app = create_app(None, metrics=Metrics())
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is no route whose scope is checked"
        calls = [dependency.call for dependency in route.dependant.dependencies]
        scope = next((call.scope for call in calls if hasattr(call, "scope")), None)
        path = route.path.replace(":path", "")
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", NAMES.get(name, "something"))
        for method in sorted(route.methods):
            yield method, path, scope


ROUTES = sorted(set(routes()), key=str)
OPEN = {path for _, path, scope in ROUTES if scope is None}


@pytest.fixture
def door(serve, tmp_path):
    """A server with keys in every state; each key has all scopes unless its name says otherwise."""
    with serve(folder=tmp_path, with_keys=True) as running:
        book = running.keys
        made = {state: book.create(tenant="t", scopes=SCOPES) for state in ("right", "revoked", "expired")}
        book.revoke(made["revoked"].split("_")[1])
        with book._engine.begin() as connection:
            expired = table.c.prefix == made["expired"].split("_")[1]
            connection.execute(update(table).where(expired).values(expires_at=time.time() - 1))
        made |= {
            f"without {scope}": book.create(tenant="t", scopes=set(SCOPES) - {scope}) for scope in SCOPES
        }
        with httpx.Client(base_url=running.url, timeout=20) as client:
            yield client, made


def presented(made):
    """Everything that is no key, as an Authorization header."""
    right = made["right"]
    other = "fsk_00000000_" + right.split("_", 2)[2]
    return {
        "missing": None,
        "empty": "",
        "no scheme": right,
        "basic": f"Basic {right}",
        "no token": "Bearer",
        "malformed": "Bearer sk-123",
        "unknown": f"Bearer {other}",
        "wrong secret": f"Bearer {right[:-1]}" + ("A" if right[-1] != "A" else "B"),
        "cut": f"Bearer {right[:20]}",
        "doubled": f"Bearer {right} {right}",
        "two": f"Bearer {right},Bearer {right}",
        "revoked": f"Bearer {made['revoked']}",
        "expired": f"Bearer {made['expired']}",
    }


def test_every_route_in_every_state_of_a_key(door):
    client, made = door
    assert {"/health", "/ready"} == OPEN
    for method, path, scope in ROUTES:
        if scope is None:
            assert client.request(method, path).status_code == 200
            continue
        for state, header in presented(made).items():
            headers = {} if header is None else {"authorization": header}
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, state, answer.text)
            assert answer.content.startswith(NOBODY)  # one body for all: nothing can be probed
            assert answer.headers["www-authenticate"] == "Bearer"
        lacking = client.request(
            method, path, headers={"authorization": f"Bearer {made[f'without {scope}']}"}
        )
        assert (lacking.status_code, lacking.json()["error"]["code"]) == (403, "insufficient_scope")
        right = client.request(method, path, headers={"authorization": f"Bearer {made['right']}"})
        assert right.status_code not in (401, 403), (method, path, right.text)
        assert right.status_code < 500


def tricks(path):
    """Other ways to write an address that some server somewhere took for the same one."""
    first, _, rest = path[1:].partition("/")
    yield path + "/"
    yield "/" + path
    yield "//evil.example" + path
    yield path.replace("/", "//")
    yield f"/{first}%2F{rest}"
    yield f"/health/..{path}"
    yield f"/health/%2e%2e{path}"
    yield f"/health;{path}"
    yield f"/health?{path}"
    yield f"/health%00{path}"
    yield f"{path}?/health"
    yield f"{path}#/health"
    yield f"{path};/health"
    yield f"{path}%20"
    yield path.upper()
    yield f"http://localhost{path}"
    yield f"http://evil.example{path}"
    yield f"http://localhost/health@{path}"


HEADERS = (
    {},
    {"host": "evil.example"},
    {"host": "localhost/health?"},
    {"host": "a/health", "x-forwarded-host": "localhost"},
    {"x-forwarded-for": "127.0.0.1", "x-forwarded-prefix": "/health", "forwarded": "for=127.0.0.1"},
    {"x-original-url": "/health", "x-rewrite-url": "/health", "x-http-method-override": "GET"},
)


def raw(url, method, target, headers, key=None):
    """The status line and body of a request written byte by byte: no client tidies it."""
    at = urlsplit(url)
    sent = {"host": at.netloc, **headers, "content-length": "0", "connection": "close"}
    if key:
        sent["authorization"] = f"Bearer {key}"
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    with socket.create_connection((at.hostname, at.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        said = b""
        while got := connection.recv(1 << 16):
            said += got
    return int(said.split(b" ", 2)[1]), said


def test_no_way_to_write_a_host_or_path_gets_round_the_key(door):
    client, made = door
    url = str(client.base_url)
    weak = made["without infer"]
    seen = set()
    for method, path, scope in ROUTES:
        if scope is None:
            continue
        for target in (path, *tricks(path)):
            status, said = raw(url, method, target, {})
            seen.add(status)
            health = target.startswith(("/health?", "/health;", "/health#"))
            assert status in (400, 401, 404, 405) or (health and b'{"status":"ok"}' in said), (method, target)
        for headers in HEADERS:
            status, _ = raw(url, method, path, headers)
            assert status in (400, 401), (method, path, headers)
            if scope == "infer":
                status, _ = raw(url, method, path, headers, weak)
                assert status in (400, 403), (method, path, headers)
    assert {401, 404} <= seen


FOREIGN = (
    {"host": "evil.example"},
    {"host": "evil.example:8000"},
    {"host": "localhost.evil.example"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "evil.example#localhost"},
    {"host": "evil.example/localhost"},
    {"host": "localhost:1@evil.example"},
    {"host": "testserver"},
    {"host": ""},
    {"origin": "https://evil.example"},
    {"origin": "http://localhost.evil.example"},
    {"origin": "null"},
    {"forwarded": "for=127.0.0.1"},
    {"x-forwarded-for": "127.0.0.1"},
    {"x-forwarded-proto": "https"},
    {"x-forwarded-host": "localhost"},
)


def test_without_keys_only_this_machine_s_own_callers_are_let_in_on_any_route(serve, tmp_path):
    with serve(folder=tmp_path) as running:
        for method, path, scope in ROUTES:
            for headers in FOREIGN if scope else ():
                status, said = raw(running.url, method, path, headers)
                assert status == 400, (method, path, headers, said)
        for headers in ({"host": "localhost"}, {"host": "[::1]:80"}, {"origin": "http://localhost:3000"}):
            assert raw(running.url, "GET", "/v1/models", headers)[0] == 200


def test_a_key_that_is_revoked_no_longer_opens_a_connection_that_is_open(serve, tmp_path):
    with serve(folder=tmp_path, with_keys=True) as running, httpx.Client(base_url=running.url) as client:
        key = running.keys.create(tenant="t", scopes=["infer"])
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/v1/models", headers=headers).status_code == 200
        running.keys.revoke(key.split("_")[1])
        assert client.get("/v1/models", headers=headers).status_code == 401
