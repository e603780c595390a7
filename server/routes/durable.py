"""POSTs with a lasting effect: done once, also when the answer was lost and the client asks again."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, BinaryIO, NamedTuple, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from indexer import attempts
from server.corpora import Corpora
from server.errors import IdempotencyInProgress, IdempotencyMismatch, InvalidValue
from server.keys import Key
from server.routes.generation import read_asked
from server.wire.headers import retry_count_of

WAIT_SECONDS = 0.1  # between looks at an attempt that still runs
KEPT_HEADERS = ("content-type", "openai-poll-after-ms")
BLOCK = 1 << 20
DEDUPLICATED = "x-fewshot-deduplicated"


class Attempt(NamedTuple):
    """One go at the work."""

    id: str | None = None  # a ULID, to be that of what is made; None: nobody will ask for it again
    again: bool = False  # an earlier server died on it: what it made may be there under this id

    def named(self, prefix: str) -> str | None:
        return None if self.id is None else f"{prefix}{self.id}"


Work = Callable[[Attempt], Awaitable[Response]]
H = TypeVar("H", bound=Callable[..., Awaitable[Response]])


async def once(
    request: Request,
    key: Key,
    content: Callable[[], Awaitable[bytes]],
    work: Work,
    *,
    lease_seconds: float = attempts.LEASE_SECONDS,
) -> Response:
    """The answer of `work`, or that of the attempt which this one repeats.

    By Idempotency-Key for a day; else, where the client says that it repeats itself, by the content of what
    was sent in the last ten minutes. `content` gives the parsed parts of the request in one form.
    Raises InvalidValue, IdempotencyMismatch, IdempotencyInProgress, and what `work` raises.
    """
    corpora: Corpora = request.state.corpora
    name, count = _name(request.headers), retry_count_of(request.headers)
    if name is None and count is None:
        return await work(Attempt())
    what = f"{request.method} {request.url.path}\0".encode() + await content()
    digest = hashlib.sha256(what).hexdigest()
    while True:
        standing = await corpora.run(
            attempts.begin,
            key.prefix,
            digest,
            name=name,
            repeated=bool(count),
            lease_seconds=lease_seconds,
        )
        if standing.state == "yours":
            return await _done(corpora, standing, work, lease_seconds / 4)
        if standing.state == "done" and standing.result is not None:
            return _told(standing.result)
        if standing.state == "other":
            raise IdempotencyMismatch(
                "this Idempotency-Key came with another request before; use a fresh one for each"
            )
        if name is not None:
            raise IdempotencyInProgress("the request with this Idempotency-Key still runs; ask again")
        await asyncio.sleep(WAIT_SECONDS)


def durable(handler: H) -> H:
    """A route with a JSON body, or none, whose work may be done twice but should not be."""

    @wraps(handler)
    async def guarded(*, request: Request, key: Key, **others: Any) -> Response:
        body = await read_asked(request)

        async def work(_: Attempt) -> Response:
            return await handler(request=request, key=key, **others)

        return await once(request, key, of_json(body), work)

    return guarded  # type: ignore[return-value]


def of_json(body: bytes) -> Callable[[], Awaitable[bytes]]:
    """The content of a JSON body: its value, not its spelling."""

    async def content() -> bytes:
        try:
            return orjson.dumps(orjson.loads(body or b"null"), option=orjson.OPT_SORT_KEYS)
        except orjson.JSONDecodeError:
            return body  # the work will refuse it

    return content


def digest_of(file: BinaryIO) -> str:
    """Of the whole file, which is then at its beginning again."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


async def _done(corpora: Corpora, standing: attempts.Standing, work: Work, renewed_every: float) -> Response:
    try:
        async with _alive(corpora, standing.id, renewed_every):
            response = await work(Attempt(standing.id, standing.again))
    except Exception:
        await corpora.run(attempts.abandon, standing.id)
        raise
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    told = orjson.dumps([bytes(response.body).decode(), headers]).decode()
    await corpora.run(attempts.complete, standing.id, told)
    return response


@asynccontextmanager
async def _alive(corpora: Corpora, claim: str, every_seconds: float) -> AsyncGenerator[None]:
    """Until the block is left, others hear that the attempt still runs."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            await corpora.run(attempts.renew, claim)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()


def _told(result: str) -> Response:
    body, headers = orjson.loads(result)
    return Response(body, headers={**headers, DEDUPLICATED: "true"})


def _name(headers: Mapping[str, str]) -> str | None:
    """A digest of the Idempotency-Key, which may tell more than the caller thinks."""
    said = headers.get("idempotency-key")
    if said is None:
        return None
    if not re.fullmatch(r"[!-~]{1,255}", said):
        raise InvalidValue("Idempotency-Key takes 1 to 255 visible ASCII characters", param="Idempotency-Key")
    return hashlib.sha256(said.encode()).hexdigest()
