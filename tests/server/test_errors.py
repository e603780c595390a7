"""One table, total: every error of every room has an answer, and answers give nothing away."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from indexer.errors import IndexerError
from prompts.errors import PromptError, PromptTooLong, UnknownTemplate
from server import errors
from server.errors import ServerError
from server.wire.handlers import install_error_handlers
from server.wire.problems import BUG, TABLE, problem_of


def tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("root", [ServerError, PromptError, IndexerError], ids=lambda root: root.__name__)
def test_every_error_has_a_row(root: type[BaseException]):
    raised = (kind for kind in tree(root) if not kind.__subclasses__())
    missing = [kind.__name__ for kind in raised if kind not in TABLE]
    assert not missing, "give these a row in server/wire/problems.py"


def test_the_server_tree_is_drawn_as_it_is():
    drawing = errors.__doc__ or ""
    assert [kind.__name__ for kind in tree(ServerError) if kind.__name__ not in drawing] == []


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (errors.MissingParameter("x", param="model"), 400, "missing_parameter", "model"),
        (errors.InvalidKey("x"), 401, "invalid_api_key", None),
        (errors.ModelNotFound("x", param="model"), 404, "model_not_found", "model"),
        (errors.GenerationConflict("x"), 409, "generation_conflict", None),
        (errors.RateLimited("x"), 429, "rate_limit_exceeded", None),
        (errors.DeadlineExceeded("x"), 504, "deadline_exceeded", None),
        (errors.InsufficientStorage("x"), 507, "insufficient_storage", None),
        (UnknownTemplate("a", ["b"]), 404, "not_found", "fewshot.template"),
        (PromptTooLong(needed=2, room=1, largest="question"), 400, "context_length_exceeded", "messages"),
        (ValueError("x"), 500, "internal_error", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_answers_as_the_contract_says(error: Exception, status: int, code: str, param: str | None):
    problem = problem_of(error)
    assert (problem.status, problem.code, problem.param) == (status, code, param)
    assert set(problem.body()["error"]) == {"message", "type", "param", "code"}


def test_a_wait_is_between_one_second_and_two_minutes():
    def waits(seconds: float) -> tuple[str, str]:
        headers = problem_of(errors.QueueFull("x", retry_after_seconds=seconds)).headers()
        return headers["retry-after"], headers["retry-after-ms"]

    assert waits(0) == ("1", "1000")
    assert waits(2.5) == ("3", "2500")
    assert waits(9_999) == ("120", "120000")


def test_only_a_conflict_in_progress_is_worth_a_retry():
    assert problem_of(errors.NameInUse("x")).headers()["x-should-retry"] == "false"
    assert "x-should-retry" not in problem_of(errors.IdempotencyInProgress("x")).headers()


def test_what_lower_rooms_say_of_their_files_stays_inside():
    for kind in tree(IndexerError):
        problem = problem_of(kind("/data/stores/vs_1/7/ids is damaged"))
        assert problem.status < 500 or "/data" not in problem.message
    assert problem_of(RuntimeError("secret")).message == BUG.says


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI(redirect_slashes=False, openapi_url=None)
    install_error_handlers(app)

    @app.get("/limited")
    def limited() -> None:
        raise errors.RateLimited("Slow down.", retry_after_seconds=7)

    @app.get("/keyless")
    def keyless() -> None:
        raise errors.InvalidKey("Send a key.")

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a secret")

    @app.get("/listed")
    def listed(limit: int) -> int:
        return limit

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", "/nowhere", 404, "unknown_url", None),
        ("GET", "/limited/", 404, "unknown_url", None),
        ("POST", "/limited", 405, "method_not_allowed", None),
        ("GET", "/limited", 429, "rate_limit_exceeded", None),
        ("GET", "/keyless", 401, "invalid_api_key", None),
        ("GET", "/listed", 400, "missing_parameter", "limit"),
        ("GET", "/listed?limit=x", 400, "invalid_value", "limit"),
        ("GET", "/broken", 500, "internal_error", None),
    ],
)
def test_every_failure_has_the_one_body_and_an_id(
    client: TestClient, method: str, path: str, status: int, code: str, param: str | None
):
    response = client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert response.headers["x-request-id"].startswith("req_")
    assert "secret" not in response.text


def test_headers_that_clients_act_on(client: TestClient):
    assert client.get("/limited").headers["retry-after"] == "7"
    assert client.post("/limited").headers["allow"] == "GET"
    assert client.get("/keyless").headers["www-authenticate"] == "Bearer"
