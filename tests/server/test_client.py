"""The openai client, unmodified, sync and async: every flow, every trap, every row of the error table."""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import uvicorn
from fastapi import FastAPI, Request

from server import errors
from server.keys import SCOPES
from server.wire.handlers import install_error_handlers
from server.wire.problems import TABLE
from tests.environments import python_of, spoken
from tests.server import client_flows
from tests.server.client_flows import FLOWS, run


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow(serve, tmp_path, name, kind):
    with serve(with_keys=True, folder=tmp_path / "data") as running:
        key = running.keys.create(tenant="t", scopes=list(SCOPES))
        asyncio.run(run(running.url, key, name, kind))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_oldest_client_goes_every_way_too(serve, tmp_path):
    python = python_of("openai-oldest")
    with serve(with_keys=True, folder=tmp_path / "data") as running:
        key = running.keys.create(tenant="t", scopes=list(SCOPES))
        said = json.loads(spoken(python, Path(client_flows.__file__), running.url, key))
    assert said == {"version": "3.0.0", "flows": 2 * len(FLOWS), "failed": {}}


# openai-surface §2: what is raised, its status and code, the client's exception, and how often it asks again.
ROWS = [
    (errors.InvalidValue, 400, "invalid_value", openai.BadRequestError, 0),
    (errors.MissingParameter, 400, "missing_parameter", openai.BadRequestError, 0),
    (errors.UnsupportedParameter, 400, "unsupported_parameter", openai.BadRequestError, 0),
    (errors.ContextTooLong, 400, "context_length_exceeded", openai.BadRequestError, 0),
    (errors.InvalidFilter, 400, "invalid_filter", openai.BadRequestError, 0),
    (errors.UnsafeDocument, 400, "unsafe_document", openai.BadRequestError, 0),
    (errors.StoreExpired, 400, "vector_store_expired", openai.BadRequestError, 0),
    (errors.UnsupportedAdapterKind, 400, "unsupported_adapter_kind", openai.BadRequestError, 0),
    (errors.InvalidKey, 401, "invalid_api_key", openai.AuthenticationError, 0),
    (errors.InsufficientScope, 403, "insufficient_scope", openai.PermissionDeniedError, 0),
    (errors.NotFound, 404, "not_found", openai.NotFoundError, 0),
    (errors.ModelNotFound, 404, "model_not_found", openai.NotFoundError, 0),
    (errors.NoRelevantSources, 404, "no_relevant_sources", openai.NotFoundError, 0),
    (errors.UnknownUrl, 404, "unknown_url", openai.NotFoundError, 0),
    (errors.MethodNotAllowed, 405, "method_not_allowed", openai.APIStatusError, 0),
    (errors.RequestTimeout, 408, "request_timeout", openai.APIStatusError, 2),
    (errors.RequestTooLarge, 413, "request_too_large", openai.APIStatusError, 0),
    (errors.UnsupportedMediaType, 415, "unsupported_media_type", openai.APIStatusError, 0),
    (errors.IdempotencyInProgress, 409, "idempotency_in_progress", openai.ConflictError, 2),
    (errors.NameInUse, 409, "name_in_use", openai.ConflictError, 0),
    (errors.GenerationConflict, 409, "generation_conflict", openai.ConflictError, 0),
    (errors.AdapterInUse, 409, "adapter_in_use", openai.ConflictError, 0),
    (errors.ExperimentState, 409, "experiment_state", openai.ConflictError, 0),
    (errors.IdempotencyMismatch, 422, "idempotency_mismatch", openai.UnprocessableEntityError, 0),
    (errors.RateLimited, 429, "rate_limit_exceeded", openai.RateLimitError, 2),
    (errors.QueueFull, 429, "queue_full", openai.RateLimitError, 2),
    (errors.Overloaded, 503, "server_is_overloaded", openai.InternalServerError, 2),
    (errors.EngineUnavailable, 503, "engine_unavailable", openai.InternalServerError, 2),
    (errors.RetrievalUnavailable, 503, "retrieval_unavailable", openai.InternalServerError, 2),
    (errors.Draining, 503, "draining", openai.InternalServerError, 2),
    (errors.Starting, 503, "starting", openai.InternalServerError, 2),
    (errors.DeadlineExceeded, 504, "deadline_exceeded", openai.InternalServerError, 0),
    (errors.InsufficientStorage, 507, "insufficient_storage", openai.InternalServerError, 0),
    (RuntimeError, 500, "internal_error", openai.InternalServerError, 2),
]


@contextlib.contextmanager
def raising():
    """A server whose `/v1/models/<class>` raises that class; and the retry counts each was asked with."""
    app, asked = FastAPI(), Counter()
    install_error_handlers(app)
    kinds = {row[0].__name__: row[0] for row in ROWS}

    @app.get("/v1/models/{name}")
    def fail(name: str, request: Request) -> None:
        asked[name, request.headers["x-stainless-retry-count"]] += 1
        kind = kinds[name]
        waits = kind in TABLE and TABLE[kind].retry_after_seconds is not None
        raise kind("x", retry_after_seconds=0) if waits else kind("x")  # as short as the server ever says

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1", asked
    finally:
        server.should_exit = True
        thread.join(30)


def test_every_error_is_the_clients_exception_asked_again_as_often_as_it_should_be():
    def meet(row):
        kind, *_ = row
        with pytest.raises(openai.APIStatusError) as raised:
            client.models.retrieve(kind.__name__)
        return raised.value

    with (
        raising() as (url, asked),
        openai.OpenAI(base_url=url, api_key="any", timeout=20) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        met = list(pool.map(meet, ROWS))
    for (kind, status, code, expected, retries), error in zip(ROWS, met, strict=True):
        assert type(error) is expected, kind
        assert (error.status_code, error.code, error.param) == (status, code, None)
        assert error.request_id.startswith("req_")
        counts = {count: times for (name, count), times in asked.items() if name == kind.__name__}
        assert counts == {str(count): 1 for count in range(retries + 1)}, kind  # trap 2
        wait = error.response.headers.get("retry-after")  # trap 3
        assert (wait is None) == (status not in (429, 503) and code != "idempotency_in_progress")
        assert wait is None or 1 <= int(wait) <= 120


def test_the_rows_are_all_there_are():
    ours = {kind for kind in TABLE if kind.__module__ == errors.__name__}
    assert ours - {row[0] for row in ROWS} == set()
