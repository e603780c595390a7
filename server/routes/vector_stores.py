"""/v1/vector_stores: stores, and search in one."""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from indexer import ownership
from indexer.errors import UnknownStore
from indexer.fusion import calibrate
from indexer.records import Hit, Hits
from server.auth import requires
from server.corpora import Corpora
from server.keys import Key
from server.pipeline import Parts
from server.routes.bodies import read_json_bytes
from server.routes.connection import in_time
from server.routes.durable import Attempt, of_json, once
from server.routes.files import Caller, answer
from server.wire.cursors import list_body, read_window
from server.wire.store_objects import search_body, store_object
from server.wire.stores import read_store, read_store_change, read_store_search

router = APIRouter()


@router.post("/v1/vector_stores", response_model=None)
async def create(request: Request, key: Caller) -> Response:
    """A new store; files named here are read in the background and counted at once."""
    corpora: Corpora = request.state.corpora
    options = request.state.options
    body = await read_json_bytes(request, options.body_bytes)
    asked = read_store(body, options.unknown_fields)
    model = asked.fewshot.embedding_model

    async def make(attempt: Attempt) -> Response:
        store_id = attempt.named("vs_")
        if attempt.again and store_id:
            with suppress(UnknownStore):
                return answer(store_object(await corpora.run(ownership.find, key.tenant, store_id)))
        status = await corpora.run(
            corpora.create_store, key.tenant, asked.wishes(), model, asked.values(), store_id
        )
        corpora.wake()
        return answer(store_object(status))

    return await once(request, key, of_json(body), make)


@router.get("/v1/vector_stores", response_model=None)
async def list_stores(request: Request, key: Caller) -> Response:
    """The stores that the key sees: its tenant's, and common ones."""
    corpora: Corpora = request.state.corpora
    page = await corpora.run(ownership.listed, key.tenant, read_window(request.query_params, "vs_"))
    return answer(list_body([store_object(status) for status in page.items], page))


@router.get("/v1/vector_stores/{store_id}", response_model=None)
async def retrieve(request: Request, store_id: str, key: Caller) -> Response:
    """What is known of a store, and how many of its files are read."""
    corpora: Corpora = request.state.corpora
    return answer(store_object(await corpora.run(ownership.find, key.tenant, store_id)))


@router.post("/v1/vector_stores/{store_id}", response_model=None)
async def change(request: Request, store_id: str, key: Caller) -> Response:
    """Another name, expiry or metadata; null clears."""
    corpora: Corpora = request.state.corpora
    options = request.state.options
    body = await read_json_bytes(request, options.body_bytes)
    values = read_store_change(body, options.unknown_fields)

    async def work(_: Attempt) -> Response:
        return answer(store_object(await corpora.run(ownership.change, key.tenant, store_id, values)))

    return await once(request, key, of_json(body), work)


@router.delete("/v1/vector_stores/{store_id}", response_model=None)
async def delete(request: Request, store_id: str, key: Caller) -> Response:
    """No search finds the store any more; its files stay."""
    corpora: Corpora = request.state.corpora
    gone = await corpora.run(ownership.delete, key.tenant, store_id)
    return answer({"id": gone, "object": "vector_store.deleted", "deleted": True})


@router.post("/v1/vector_stores/{store_id}/search", response_model=None)
async def search(
    request: Request, store_id: str, key: Annotated[Key, Depends(requires("infer"))]
) -> Response:
    """The best chunks for one query, or for several together."""
    parts: Parts = request.state.parts
    options = request.state.options
    asked = read_store_search(await read_json_bytes(request, options.body_bytes), options.unknown_fields)
    wanted, top = asked.search(store_id, key.tenant), asked.max_num_results

    async def every() -> list[Hits]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(parts.retriever.search(query, wanted, top=top)) for query in asked.query
            ]
        return [task.result() for task in tasks]

    try:
        found = await in_time(request, every())
    except ExceptionGroup as problems:
        raise problems.exceptions[0] from None
    generation = min(number for hits in found for number in hits.generations.values())
    return answer(search_body(asked.query, together(found, top, asked.max_results_per_file), generation))


def together(found: list[Hits], top: int, per_file: int | None) -> list[Hit]:
    """The hits of several queries, each chunk with its best score, by strictly decreasing score."""
    if len(found) == 1:
        return list(found[0].hits)
    best: dict[str, Hit] = {}
    for hits in found:
        for hit in hits.hits:
            known = best.get(hit.chunk_id)
            if known is None or hit.score > known.score:
                best[hit.chunk_id] = hit
    taken: dict[tuple[str, str | None], int] = {}
    kept: list[Hit] = []
    for hit in sorted(best.values(), key=lambda hit: (-hit.score, hit.chunk_id)):
        document = (hit.file_id, hit.external_id)
        taken[document] = taken.get(document, 0) + 1
        if (per_file is None or taken[document] <= per_file) and len(kept) < top:
            kept.append(hit)
    scores = calibrate([hit.score for hit in kept])
    return [hit._replace(score=score) for hit, score in zip(kept, scores, strict=True)]
