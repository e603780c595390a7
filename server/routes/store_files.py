"""/v1/vector_stores/{id}/files and /file_batches: files of a store, attached and read in the background."""

from collections.abc import Sequence
from contextlib import suppress

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from indexer import attachments, file_batches, ownership
from indexer.attachments import Attachment, Wish
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import UnknownBatch
from indexer.file_batches import FileBatch
from indexer.ownership import STATES
from server.corpora import Corpora
from server.errors import InvalidValue
from server.routes.bodies import read_json_bytes
from server.routes.durable import Attempt, of_json, once
from server.routes.files import Caller, answer
from server.wire.cursors import list_body, read_window
from server.wire.store_objects import POLL_MS, batch_object, content_body, store_file_object
from server.wire.stores import read_file_batch, read_store_file, read_store_file_change

router = APIRouter()
FILES = "/v1/vector_stores/{store_id}/files"
BATCHES = "/v1/vector_stores/{store_id}/file_batches"


@router.post(FILES, response_model=None)
async def attach(request: Request, store_id: str, key: Caller) -> Response:
    """Have a file read into the store; it is counted as in progress when this answers."""
    corpora: Corpora = request.state.corpora
    options = request.state.options
    body = await read_json_bytes(request, options.body_bytes)
    asked = read_store_file(body, options.unknown_fields)

    async def work(_: Attempt) -> Response:
        file = await corpora.run(_attached, corpora, key.tenant, store_id, asked.wish())
        corpora.wake()
        return _file(file)

    return await once(request, key, of_json(body), work)


@router.get(FILES, response_model=None)
async def list_files(request: Request, store_id: str, key: Caller) -> Response:
    """The files of a store."""
    return await _listed(request, store_id, key.tenant, None)


@router.get(FILES + "/{file_id}", response_model=None)
async def retrieve(request: Request, store_id: str, file_id: str, key: Caller) -> Response:
    """How far a file of the store is, and what was wrong with it."""
    corpora: Corpora = request.state.corpora
    return _file(await corpora.run(attachments.find, key.tenant, store_id, file_id))


@router.post(FILES + "/{file_id}", response_model=None)
async def change(request: Request, store_id: str, file_id: str, key: Caller) -> Response:
    """Other attributes, for the next search; nothing is embedded again."""
    corpora: Corpora = request.state.corpora
    options = request.state.options
    body = await read_json_bytes(request, options.body_bytes)
    asked = read_store_file_change(body, options.unknown_fields)

    async def work(_: Attempt) -> Response:
        return _file(await corpora.run(attachments.describe, key.tenant, store_id, file_id, asked.attributes))

    return await once(request, key, of_json(body), work)


@router.delete(FILES + "/{file_id}", response_model=None)
async def detach(request: Request, store_id: str, file_id: str, key: Caller) -> Response:
    """The file leaves the store; the upload stays."""
    corpora: Corpora = request.state.corpora
    await corpora.run(attachments.detach, key.tenant, store_id, file_id)
    return answer({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})


@router.get(FILES + "/{file_id}/content", response_model=None)
async def content(request: Request, store_id: str, file_id: str, key: Caller) -> Response:
    """The extracted text: what every offset in hits and citations counts in."""
    corpora: Corpora = request.state.corpora
    return answer(content_body(await corpora.run(attachments.texts, key.tenant, store_id, file_id)))


@router.post(BATCHES, response_model=None)
async def begin(request: Request, store_id: str, key: Caller) -> Response:
    """Attach many files at once: all are accepted, or none."""
    corpora: Corpora = request.state.corpora
    options = request.state.options
    body = await read_json_bytes(request, options.body_bytes)
    asked = read_file_batch(body, options.unknown_fields)

    async def make(attempt: Attempt) -> Response:
        batch_id = attempt.named("vsfb_")
        if attempt.again and batch_id:
            with suppress(UnknownBatch):
                return _batch(await corpora.run(file_batches.find, key.tenant, store_id, batch_id))
        batch = await corpora.run(_begun, corpora, key.tenant, store_id, asked.wishes(), batch_id)
        corpora.wake()
        return _batch(batch)

    return await once(request, key, of_json(body), make)


@router.get(BATCHES + "/{batch_id}", response_model=None)
async def retrieve_batch(request: Request, store_id: str, batch_id: str, key: Caller) -> Response:
    """How far the files of a batch are."""
    corpora: Corpora = request.state.corpora
    return _batch(await corpora.run(file_batches.find, key.tenant, store_id, batch_id))


@router.post(BATCHES + "/{batch_id}/cancel", response_model=None)
async def cancel(request: Request, store_id: str, batch_id: str, key: Caller) -> Response:
    """Files that were not read yet stay unread."""
    corpora: Corpora = request.state.corpora

    async def work(_: Attempt) -> Response:
        return _batch(await corpora.run(file_batches.cancel, key.tenant, store_id, batch_id))

    return await once(request, key, of_json(b""), work)


@router.get(BATCHES + "/{batch_id}/files", response_model=None)
async def list_batch(request: Request, store_id: str, batch_id: str, key: Caller) -> Response:
    """The files of a batch."""
    corpora: Corpora = request.state.corpora
    await corpora.run(file_batches.find, key.tenant, store_id, batch_id)
    return await _listed(request, store_id, key.tenant, batch_id)


async def _listed(request: Request, store_id: str, tenant: str, batch_id: str | None) -> Response:
    corpora: Corpora = request.state.corpora
    query = request.query_params
    window = read_window(query, "file-", also=("filter",))
    state = query.get("filter")
    if state is not None and state not in STATES:
        raise InvalidValue(f"filter must be one of {', '.join(STATES)}", param="filter")
    page = await corpora.run(attachments.listed, tenant, store_id, window, state=state, batch_id=batch_id)
    return answer(list_body([store_file_object(file) for file in page.items], page))


def _attached(catalogue: Catalogue, corpora: Corpora, tenant: str, store_id: str, wish: Wish) -> Attachment:
    tokens = corpora.window(ownership.find(catalogue, tenant, store_id).store)
    with writing(catalogue.engine) as connection:
        store = ownership.owned(connection, tenant, store_id)
        attachments.attach(connection, store, tenant, [wish], window=tokens)
    return attachments.find(catalogue, tenant, store_id, wish.upload_id)


def _begun(
    catalogue: Catalogue,
    corpora: Corpora,
    tenant: str,
    store_id: str,
    wishes: Sequence[Wish],
    batch_id: str | None,
) -> FileBatch:
    tokens = corpora.window(ownership.find(catalogue, tenant, store_id).store)
    return file_batches.begin(catalogue, tenant, store_id, wishes, window=tokens, batch_id=batch_id)


def _file(file: Attachment) -> Response:
    return answer(store_file_object(file), _poll(file.state))


def _batch(batch: FileBatch) -> Response:
    return answer(batch_object(batch), _poll(batch.state))


def _poll(state: str) -> dict[str, str] | None:
    return {"openai-poll-after-ms": str(POLL_MS)} if state == "in_progress" else None
