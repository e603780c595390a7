"""Two tenants who call every route at random never learn of each other: the laws of tenant_programs."""

import httpx
import pytest
from fastapi.routing import APIRoute

from server.app import create_app
from server.metrics import Metrics
from tests.server.tenant_programs import ID, Programs, Tenant

SCOPES = ["infer", "files", "feedback", "audit"]
OPEN = {"/health", "/ready"}
NEVER_OPEN = {
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("POST", "/v1/responses/{other}"),
    ("DELETE", "/mcp"),  # no session is opened here
    ("GET", "/v1/experiments/{experiment}"),  # none runs here
    ("GET", "/v1/experiments/{experiment}/report"),
}


def routes_of_the_app():
    app = create_app(None, metrics=Metrics())
    found = [
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path not in OPEN
        for method in sorted(route.methods)
    ]
    return sorted(found)


def of_operators():
    """Routes of the scope admin, which spans all tenants."""
    app = create_app(None, metrics=Metrics())
    return {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
        for dependency in route.dependant.dependencies
        if getattr(dependency.call, "scope", None) == "admin"
    }


def run(serve, folder, calls, seed, kind=Programs):
    with serve(folder=folder, with_keys=True) as running:
        tenants = []
        for name, word in (("acme", "zyxomma"), ("umbrella", "quillwort")):
            key = running.keys.create(tenant=name, scopes=SCOPES)
            client = httpx.Client(
                base_url=running.url, headers={"authorization": f"Bearer {key}"}, timeout=30
            )
            tenants.append(Tenant(name, word, running.clients.enter_context(client)))
        common = set(ID.findall(tenants[0].client.get("/v1/vector_stores").text))
        for store in sorted(common):
            common |= set(ID.findall(tenants[0].client.get(f"/v1/vector_stores/{store}/files").text))
        hits = tenants[0].client.post("/v1/vector_stores/facts/search", json={"query": "a"})
        common |= set(ID.findall(hits.text))
        programs = kind((tenants[0], tenants[1]), routes_of_the_app(), common, seed)
        for _ in range(calls):
            programs.step()
        seen = [tenant.all_ids for tenant in tenants]
        assert not seen[0] & seen[1]
        programs.exposition = running.parts.metrics.exposition()
        return programs


@pytest.fixture
def folder(tmp_path, data):
    """A data folder of its own, with the common store `facts`."""
    import shutil

    return shutil.copytree(data, tmp_path / "data")


def test_neither_of_two_tenants_learns_of_the_other(serve, folder):
    programs = run(serve, folder, 300, seed=1)
    assert programs.twins > 20
    assert programs.statuses[200] > 80


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_calls_of_two_tenants_over_every_route(serve, folder):
    programs = run(serve, folder, 10_000, seed=20)
    assert min(programs.calls.values()) > 60
    assert set(programs.calls) == set(routes_of_the_app())
    closed = {route for route in programs.calls if programs.opened[route] < 10}
    assert closed == NEVER_OPEN | of_operators()
    print(programs.statuses, programs.twins, dict(programs.opened))  # noqa: T201
