"""/v1/adapters, and the two routes that tools written for vLLM know."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from server.adapters.folder import MOST_FILES
from server.adapters.records import Artefact
from server.adapters.registry import Listed, Registry
from server.adapters.shelf import Shelf
from server.auth import requires
from server.errors import InvalidValue, MissingParameter, NotFound
from server.keys import Key
from server.routes.durable import digest_of, durable, of_json, once
from server.routes.files import read_parts
from server.routes.generation import read_asked
from server.wire.adapters import (
    AdapterRequest,
    LoadLoraRequest,
    Nothing,
    PromoteRequest,
    RollbackRequest,
    UnloadLoraRequest,
    UnloadRequest,
    adapter_object,
    promotion_object,
    read,
    step_object,
)
from server.wire.paging import page, read_page

router = APIRouter()
Operator = Annotated[Key, Depends(requires("admin"))]


@router.get("/v1/adapters", response_model=None)
async def list_adapters(request: Request, _: Operator) -> Response:
    """Every version that was taken in, and how it stands on this server."""
    base = _base(request)
    listed = [adapter_object(one, base) for one in await _registry(request).listed()]
    return _answer(page(listed, read_page(request.query_params)))


@router.post("/v1/adapters", response_model=None)
async def create(request: Request, key: Operator) -> Response:
    """Take in a version, checked; nothing is loaded yet."""
    shelf = _shelf(request)

    async def taken_in(take: Callable[[], Artefact]) -> Response:
        artefact = await asyncio.to_thread(take)
        await _registry(request).add(artefact, by=key.prefix)
        return _answer(await _described(request, artefact.reference))

    if not request.headers.get("content-type", "").startswith("multipart/"):
        asked = await _read(request, AdapterRequest)
        body = of_json(await read_asked(request))
        return await once(request, key, body, lambda _: taken_in(lambda: _take_in(shelf, asked)))
    async with AsyncExitStack() as stack:
        form = await read_parts(request, shelf.bytes, files=MOST_FILES)
        stack.push_async_callback(form.close)
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        files = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
        if not files:
            raise MissingParameter("'file' is required: the files of one folder, each a part", param="file")
        asked = read(orjson.dumps(fields), AdapterRequest)
        streams = [(file.filename or "", file.file) for file in files]

        async def content() -> bytes:
            digests = {name: await asyncio.to_thread(digest_of, file) for name, file in streams}
            return orjson.dumps([fields, digests], option=orjson.OPT_SORT_KEYS)

        return await once(
            request,
            key,
            content,
            lambda _: taken_in(lambda: shelf.upload(asked.name, asked.version, streams)),
        )


@router.get("/v1/adapters/steps", response_model=None)
async def steps(request: Request, _: Operator) -> Response:
    """What was done with adapters, the newest first; at most 100."""
    done = await asyncio.to_thread(_registry(request).book.steps)
    return _answer({"object": "list", "data": [step_object(step) for step in done]})


@router.post("/v1/adapters/rollback", response_model=None)
@durable
async def rollback(request: Request, key: Operator) -> Response:
    """The alias means again what it meant before."""
    asked = await _read(request, RollbackRequest)
    moved = await _registry(request).rollback(asked.alias, by=key.prefix, reason=asked.reason)
    return _answer(promotion_object(moved, key.prefix))


@router.get("/v1/adapters/{adapter_id}", response_model=None)
async def retrieve(request: Request, adapter_id: str, _: Operator) -> Response:
    """One of them, as `name@version`."""
    return _answer(await _described(request, adapter_id))


@router.delete("/v1/adapters/{adapter_id}", response_model=None)
async def delete(request: Request, adapter_id: str, key: Operator) -> Response:
    """Forget a version and remove its files. Not while it is loaded, bound, or could be rolled back to."""
    await asyncio.to_thread(_shelf(request).remove, _registry(request).book, adapter_id, by=key.prefix)
    return _answer({"id": adapter_id, "object": "adapter", "deleted": True})


@router.post("/v1/adapters/{adapter_id}/load", response_model=None)
@durable
async def load(request: Request, adapter_id: str, key: Operator) -> Response:
    """Into the engine; returns when one token was generated with it."""
    await _read(request, Nothing)
    await _registry(request).load(adapter_id, by=key.prefix)
    return _answer(await _described(request, adapter_id))


@router.post("/v1/adapters/{adapter_id}/unload", response_model=None)
@durable
async def unload(request: Request, adapter_id: str, key: Operator) -> Response:
    """Out of the engine when the requests on it have ended."""
    asked = await _read(request, UnloadRequest)
    await _registry(request).unload(adapter_id, by=key.prefix, drain_seconds=asked.drain_seconds)
    return _answer(await _described(request, adapter_id))


@router.post("/v1/adapters/{adapter_id}/promote", response_model=None)
@durable
async def promote(request: Request, adapter_id: str, key: Operator) -> Response:
    """Let an alias mean this version, loaded first."""
    asked = await _read(request, PromoteRequest)
    moved = await _registry(request).promote(asked.alias, adapter_id, by=key.prefix, reason=asked.reason)
    return _answer(promotion_object(moved, key.prefix))


@router.post("/v1/load_lora_adapter", response_model=None)
@durable
async def load_lora_adapter(request: Request, key: Operator) -> Response:
    """vLLM's: take in a folder of the inbox, load it, and serve it under the name given."""
    asked = await _read(request, LoadLoraRequest)
    registry, shelf = _registry(request), _shelf(request)
    if asked.lora_name in registry.names():
        raise InvalidValue(
            f"The lora adapter '{asked.lora_name}' has already been loaded.", param="lora_name"
        )
    name = re.sub(r"[^a-z0-9-]+", "-", asked.lora_name.partition("@")[0].lower()).strip("-")[:63]
    artefact = await asyncio.to_thread(shelf.by_path, name, asked.lora_path)
    await registry.add(artefact, by=key.prefix)
    if asked.lora_name == artefact.reference:
        await registry.load(artefact.reference, by=key.prefix)
    else:
        await registry.promote(asked.lora_name, artefact.reference, by=key.prefix)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")


@router.post("/v1/unload_lora_adapter", response_model=None)
@durable
async def unload_lora_adapter(request: Request, key: Operator) -> Response:
    """vLLM's: the name is no longer served, and the engine lets go of the version."""
    asked = await _read(request, UnloadLoraRequest)
    registry = _registry(request)
    live = registry.names().get(asked.lora_name)
    if live is None:
        raise NotFound(f"The lora adapter '{asked.lora_name}' cannot be found.", param="lora_name")
    reference = live.artefact.reference
    if asked.lora_name != reference:
        await registry.unbind(asked.lora_name, by=key.prefix)
    if not any(
        to.artefact.reference == reference for name, to in registry.names().items() if name != reference
    ):
        await registry.unload(reference, by=key.prefix)
    return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")


def _take_in(shelf: Shelf, asked: AdapterRequest) -> Artefact:
    if asked.inbox is not None:
        return shelf.from_inbox(asked.name, asked.version, asked.inbox)
    if asked.version is None:
        raise MissingParameter("give version, or inbox: which folder to take", param="version")
    return shelf.in_place(asked.name, asked.version)


async def _described(request: Request, reference: str) -> dict[str, Any]:
    return adapter_object(await _find(request, reference), _base(request))


async def _find(request: Request, reference: str) -> Listed:
    for listed in await _registry(request).listed():
        if listed.entry.artefact.reference == reference:
            return listed
    raise NotFound(f"there is no adapter {reference[:200]!r}; GET /v1/adapters lists them", param="id")


async def _read(request: Request, model: type[Any]) -> Any:
    return read(await read_asked(request), model, request.state.options.unknown_fields)


def _registry(request: Request) -> Registry:
    registry: Registry = request.state.adapters
    return registry


def _shelf(request: Request) -> Shelf:
    shelf: Shelf = request.state.shelf
    return shelf


def _base(request: Request) -> str:
    name: str = request.state.parts.engine.decoder.profile.name
    return name


def _answer(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
