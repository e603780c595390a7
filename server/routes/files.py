"""/v1/files: bytes in, bytes out. What they say is found through vector stores."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any, BinaryIO

import orjson
from fastapi import APIRouter, Depends
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from indexer import uploads
from indexer.catalogue import Catalogue
from indexer.errors import UnknownUpload
from indexer.uploads import Upload
from server.auth import requires
from server.corpora import Corpora
from server.errors import (
    InvalidValue,
    MissingParameter,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedMediaType,
)
from server.keys import Key
from server.routes.durable import Attempt, digest_of, once
from server.wire.cursors import list_body, read_window
from server.wire.files import clean_name, file_object, read_form

router = APIRouter()
Caller = Annotated[Key, Depends(requires("files"))]
SILENT_SECONDS = 30.0  # an upload that brings nothing for so long is over
BLOCK = 1 << 20
AROUND = 64 << 10  # bytes of a form beside its file


def answer(body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


@router.post("/v1/files", response_model=None)
async def create(request: Request, key: Caller) -> Response:
    """Take in a file. It is durable when this answers."""
    corpora: Corpora = request.state.corpora
    form = await read_parts(request, corpora.upload_bytes)
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise MissingParameter("'file' is required, as a part with a filename.", param="file")
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        if len(fields) + 1 != len(form.multi_items()):
            raise InvalidValue("Send one file an upload, and each field once.", param="file")
        asked = read_form(fields)
        if (file.size or 0) > corpora.upload_bytes:
            raise RequestTooLarge(f"a file may have {corpora.upload_bytes} bytes", param="file")
        name = clean_name(file.filename)

        async def content() -> bytes:
            digest = await asyncio.to_thread(digest_of, file.file)
            return orjson.dumps([fields, name, digest], option=orjson.OPT_SORT_KEYS)

        async def keep(attempt: Attempt) -> Response:
            upload_id = attempt.named("file-")
            if attempt.again and upload_id:
                with suppress(UnknownUpload):
                    return answer(file_object(await corpora.run(uploads.find, key.tenant, upload_id)))
            seconds = None if asked.expires_after is None else asked.expires_after.seconds
            upload = await corpora.run(_keep, file.file, key.tenant, name, asked.purpose, seconds, upload_id)
            return answer(file_object(upload))

        return await once(request, key, content, keep)
    finally:
        await form.close()


@router.get("/v1/files", response_model=None)
async def list_files(request: Request, key: Caller) -> Response:
    """The uploaded files of the tenant."""
    corpora: Corpora = request.state.corpora
    query = request.query_params
    window = read_window(query, "file-", also=("purpose",), usual=10_000, most=10_000)
    page = await corpora.run(uploads.listed, key.tenant, window, query.get("purpose"))
    return answer(list_body([file_object(upload) for upload in page.items], page))


@router.get("/v1/files/{file_id}", response_model=None)
async def retrieve(request: Request, file_id: str, key: Caller) -> Response:
    """What is known of a file."""
    corpora: Corpora = request.state.corpora
    return answer(file_object(await corpora.run(uploads.find, key.tenant, file_id)))


@router.delete("/v1/files/{file_id}", response_model=None)
async def delete(request: Request, file_id: str, key: Caller) -> Response:
    """The file leaves every store, and its bytes the disk."""
    corpora: Corpora = request.state.corpora
    await corpora.run(uploads.remove, key.tenant, file_id)
    return answer({"id": file_id, "object": "file", "deleted": True})


@router.get("/v1/files/{file_id}/content", response_model=None)
async def content(request: Request, file_id: str, key: Caller) -> Response:
    """The bytes as they came."""
    corpora: Corpora = request.state.corpora
    upload = await corpora.run(uploads.find, key.tenant, file_id)
    path = await corpora.run(uploads.content, upload)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=upload.filename,
        headers={"x-content-type-options": "nosniff"},
    )


def _keep(
    catalogue: Catalogue,
    file: BinaryIO,
    tenant: str,
    filename: str,
    purpose: str,
    seconds: int | None,
    upload_id: str | None,
) -> Upload:
    with uploads.receiving(catalogue) as incoming:
        while block := file.read(BLOCK):
            incoming.write(block)
        return uploads.keep(
            catalogue,
            incoming,
            tenant=tenant,
            filename=filename,
            purpose=purpose,
            lives_seconds=seconds,
            upload_id=upload_id,
        )


async def read_parts(request: Request, limit: int, *, files: int = 1) -> FormData:
    """The form; its files, `limit` bytes together, are on disk.

    Refused while it comes when it is too large, or stops coming.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaType("send multipart/form-data with the parts file and purpose")
    chunks = _chunks(request, limit + AROUND)
    parser = MultiPartParser(request.headers, chunks, max_files=files, max_fields=16)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as problem:
        said = getattr(problem, "message", "it names no boundary")
        raise InvalidValue(f"The form cannot be read: {said}") from None
    whole = {id(value.file) for _, value in form.multi_items() if isinstance(value, UploadFile)}
    for file in parser._files_to_close_on_error:  # of a part that never ended nothing else is left
        if id(file) not in whole:
            file.close()
    return form


async def _chunks(request: Request, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), SILENT_SECONDS)
        except TimeoutError:
            raise RequestTimeout(f"nothing came for {SILENT_SECONDS:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise RequestTooLarge(f"a file may have {limit - AROUND} bytes", param="file")
        if chunk:
            yield chunk
        if not message.get("more_body"):
            return
