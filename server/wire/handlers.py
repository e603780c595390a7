"""Every exception that leaves a route → the error body, also those the framework raises itself."""

import logging
import secrets
from collections.abc import Mapping

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from indexer.database import is_full
from indexer.errors import IndexerError
from prompts.errors import PromptError
from server import errors as ours
from server.wire.problems import problem_of

log = logging.getLogger(__name__)

BY_STATUS: Mapping[int, tuple[type[ours.ServerError], str]] = {
    400: (ours.InvalidValue, "The request is malformed."),
    401: (ours.InvalidKey, "Send a valid API key as `Authorization: Bearer <key>`."),
    403: (ours.InsufficientScope, "This key may not use this route."),
    404: (ours.UnknownUrl, "There is no such route. The API is under /v1, without trailing slashes."),
    405: (
        ours.MethodNotAllowed,
        "This route does not take this method; the Allow header lists those it takes.",
    ),
    408: (ours.RequestTimeout, "The body came too slowly."),
    413: (ours.RequestTooLarge, "The body is too large."),
    415: (ours.UnsupportedMediaType, "This content type is not supported."),
}


def install_error_handlers(app: FastAPI) -> None:
    """From here on every non-2xx answer of `app` has the body and headers of openai-surface §2.

    The request id is `request.state.request_id` where a middleware has set one.
    """
    for root in (ours.ServerError, PromptError, IndexerError, SQLAlchemyError, OSError, Exception):
        app.add_exception_handler(root, _answer)
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(ClientDisconnect, _nobody_listens)


def error_response(request: Request, error: Exception, extra: Mapping[str, str] | None = None) -> Response:
    """The answer to an error. A bug is logged with its traceback; the caller sees the request id only."""
    if is_full(error) and not isinstance(error, ours.ServerError):
        log.error("the disk is full: %s", error)
        error = ours.InsufficientStorage(ours.FULL)
    problem = problem_of(error)
    request_id = getattr(request.state, "request_id", None) or f"req_{secrets.token_hex(16)}"
    if problem.is_bug:
        log.error("bug while answering %s", request_id, exc_info=error)
    headers = {**problem.headers(), "x-request-id": request_id, **(extra or {})}
    if exposed := getattr(request.state, "exposed", None):  # it counts, and can be judged and looked up
        headers["x-fewshot-id"] = exposed
    return Response(orjson.dumps(problem.body()), problem.status, headers, "application/json")


async def _answer(request: Request, error: Exception) -> Response:
    return error_response(request, error)


async def _answer_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code not in BY_STATUS:
        return error_response(request, error)
    kind, message = BY_STATUS[error.status_code]
    allowed = {"allow": ", ".join(methods_of(request))} if error.status_code == 405 else None
    return error_response(request, kind(message), allowed)


def methods_of(request: Request) -> list[str]:
    """What this path takes. The framework names the methods of the first of its routes alone."""
    here = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    described = [route for route in here if getattr(route, "include_in_schema", False)]
    # A path that is written out hides one with an id in that place: /v1/adapters/steps, /{adapter_id}.
    exact = [route for route in described if getattr(route, "path", None) == request.url.path]
    named = exact or described or here
    return sorted({method for route in named for method in getattr(route, "methods", None) or ()})


async def _answer_validation(request: Request, error: Exception) -> Response:
    """FastAPI's 422 for path and query values; bodies are read by `reading.read_body`."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = ".".join(str(step) for step in first["loc"][1:]) or None
    kind = ours.MissingParameter if first["type"] == "missing" else ours.InvalidValue
    return error_response(
        request, kind(f"{param!r}: {first['msg']}." if param else first["msg"], param=param)
    )


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # never sent; only the log knows 499
