"""Routes whose endpoint is called with the request and the key, past FastAPI's solving of dependencies.

What FastAPI works out anew for each request (what the endpoint depends on, two stacks of things to close, a
second handler of errors around the one of the application) is known of such an endpoint when its route is
made: it needs a key of one scope and gives an answer. Its description is FastAPI's as before.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.keys import Key

Check = Callable[[Request], Awaitable[Key]]


class DirectRoute(APIRoute):
    """An endpoint that takes the request and a key of one scope is called at once; any other by FastAPI."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        needs = self.dependant
        others = needs.path_params, needs.query_params, needs.header_params, needs.cookie_params
        if any(others) or needs.body_params or len(needs.dependencies) != 1:
            return
        (key,) = needs.dependencies
        if needs.request_param_name == "request" and key.name and hasattr(key.call, "scope"):
            self.app = direct(endpoint, cast(Check, key.call), key.name)


def direct(endpoint: Callable[..., Awaitable[Response]], check: Check, name: str) -> ASGIApp:
    """The application of one route; the key goes to the endpoint by `name`.

    Errors go to the application's own handlers: those that FastAPI puts around each route are the same.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        key = await check(request)
        response = await endpoint(request=request, **{name: key})
        await response(scope, receive, send)

    return app
