"""Who is asking, and may they: one dependency a route, default deny."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from server.errors import InsufficientScope, InvalidKey, InvalidValue
from server.keys import LOCAL, Key, Keys
from server.quotas import Quotas
from server.settings import LOOPBACK


@dataclass(frozen=True, slots=True)
class Door:
    """How callers are let in. Without keys only this machine's own callers are."""

    keys: Keys | None
    quotas: Quotas = field(default_factory=Quotas)

    def admit(self, request: Request, scope: str) -> Key:
        """The caller's rights.

        Raises InvalidKey, InsufficientScope; without keys, InvalidValue for a request that came through
        another machine or another site (DNS rebinding, a forgotten proxy).
        """
        if self.keys is None:
            _refuse_foreign(request)
            return LOCAL
        kind, _, presented = request.headers.get("authorization", "").partition(" ")
        key = self.keys.check(presented.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise InvalidKey("the API key is missing or not valid; send `Authorization: Bearer <key>`")
        if scope not in key.scopes:
            raise InsufficientScope(
                f"this key lacks the scope {scope!r}; ask the operator for one that has it"
            )
        return key


def requires(scope: str) -> Callable[[Request], Coroutine[Any, Any, Key]]:
    """The dependency of a route; the app refuses to start with a route that has none."""

    async def check(request: Request) -> Key:
        state = request.scope["state"]  # `request.state` is a look-up in Python each time
        door: Door = state["door"]
        if door.keys is None:
            key = door.admit(request, scope)
        else:
            key = await asyncio.to_thread(door.admit, request, scope)  # looks the key up in the database
        state["key"] = key
        return key

    check.scope = scope  # type: ignore[attr-defined]
    return check


async def anyone(request: Request) -> None:
    """The dependency of the two routes that need no key: liveness and readiness."""


@lru_cache(maxsize=64)
def _is_here(host: str) -> bool:
    """Whether a Host header names this machine."""
    return (urlsplit(f"//{host}").hostname or "") in LOOPBACK


def _refuse_foreign(request: Request) -> None:
    headers = request.headers
    if not _is_here(headers.get("host", "")):
        raise InvalidValue("without API keys this server only answers to localhost; turn on auth.enabled")
    origin = headers.get("origin")
    if origin and (urlsplit(origin).hostname or "") not in LOOPBACK:
        raise InvalidValue("without API keys this server answers no other site's pages; turn on auth.enabled")
    if "forwarded" in headers or any(name.startswith("x-forwarded-") for name in headers):
        raise InvalidValue(
            "this request came through a proxy; turn on auth.enabled before putting one in front"
        )
