"""Vector stores, their files, batches and search pages as OpenAI writes them, with ours beside."""

from collections.abc import Mapping, Sequence
from typing import Any

from indexer.attachments import Attachment
from indexer.file_batches import FileBatch
from indexer.ownership import StoreStatus
from indexer.records import Hit

POLL_MS = 250  # while something is in progress


def store_object(status: StoreStatus) -> dict[str, Any]:
    store = status.store
    expires = status.expires_days
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": store.created_at,
        "name": status.label,
        "description": status.description,
        "usage_bytes": status.size_bytes,
        "file_counts": _counts(status.files),
        "status": _store_state(status),
        "last_active_at": status.last_active_at,
        "expires_after": None if expires is None else {"anchor": "last_active_at", "days": expires},
        "expires_at": status.expires_at,
        "metadata": dict(status.metadata),
        "fewshot": {
            "embedding_model": store.embedder,
            "dimension": store.dimension,
            "generation": store.generation,
            "chunks": status.chunks,
        },
    }


def store_file_object(file: Attachment) -> dict[str, Any]:
    done = file.state == "completed"
    return {
        "id": file.id,
        "object": "vector_store.file",
        "created_at": file.created_at,
        "vector_store_id": file.store_id,
        "status": file.state,
        "last_error": None if file.last_error is None else dict(file.last_error),
        "usage_bytes": file.size_bytes if done else 0,
        "attributes": dict(file.attributes),
        "chunking_strategy": _chunking(file.chunking),
        "fewshot": {
            "filename": file.filename,
            "chunks": file.chunks,
            "pages": file.pages or None,
            "stage": "waiting" if file.state == "in_progress" else file.state,
            "progress": 0.0 if file.state == "in_progress" else 1.0,
        },
    }


def batch_object(batch: FileBatch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.store_id,
        "status": batch.state,
        "file_counts": _counts(batch.files),
    }


def content_body(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A bare page: the texts joined without separator are the extracted text."""
    return {
        "object": "vector_store.file_content.page",
        "data": [
            {
                "type": "text",
                "text": section["text"],
                "fewshot": {name: value for name, value in section.items() if name != "text"},
            }
            for section in sections
        ],
        "has_more": False,
        "next_page": None,
    }


def search_body(queries: Sequence[str], hits: Sequence[Hit], generation: int) -> dict[str, Any]:
    """A bare page, best hit first."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(queries),
        "data": [
            {
                "file_id": hit.file_id,
                "filename": hit.filename,
                "score": hit.score,
                "attributes": dict(hit.attributes),
                "content": [{"type": "text", "text": hit.text}],
                "fewshot": {
                    "chunk_id": hit.chunk_id,
                    "external_id": hit.external_id,
                    "page_start": hit.page_start,
                    "page_end": hit.page_end,
                    "char_start": hit.char_start,
                    "char_end": hit.char_end,
                },
            }
            for hit in hits
        ],
        "has_more": False,
        "next_page": None,
        "fewshot": {"generation": generation},
    }


def _store_state(status: StoreStatus) -> str:
    if status.expired:
        return "expired"
    return "in_progress" if status.files["in_progress"] else "completed"


def _counts(files: Mapping[str, int]) -> dict[str, int]:
    return {**files, "total": sum(files.values())}


def _chunking(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers really used; a file of the command line was cut as its store says."""
    if options is None:
        return {"type": "other"}
    size = options["max_tokens"] or options["window"]
    static = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": options["overlap_tokens"]}
    return {"type": "static", "static": static}
