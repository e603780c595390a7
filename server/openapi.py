"""/openapi.json: FastAPI's skeleton with the request bodies of `server/wire/`."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from indexer.ownership import STATES
from server.wire.chat import ChatRequest
from server.wire.completions import CompletionRequest
from server.wire.embeddings import EmbeddingRequest
from server.wire.feedback import FeedbackRequest
from server.wire.responses import ResponsesRequest
from server.wire.stores import (
    FileBatchRequest,
    StoreChange,
    StoreFileChange,
    StoreFileRequest,
    StoreRequest,
    StoreSearchRequest,
)

BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/feedback": FeedbackRequest,
    "/v1/vector_stores": StoreRequest,
    "/v1/vector_stores/{store_id}": StoreChange,
    "/v1/vector_stores/{store_id}/search": StoreSearchRequest,
    "/v1/vector_stores/{store_id}/files": StoreFileRequest,
    "/v1/vector_stores/{store_id}/files/{file_id}": StoreFileChange,
    "/v1/vector_stores/{store_id}/file_batches": FileBatchRequest,
}
FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": ["assistants", "user_data"]},
        "expires_after[anchor]": {"enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
    },
}
WINDOW = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "order": {"enum": ["asc", "desc"], "default": "desc"},
    "after": {"type": "string"},
    "before": {"type": "string"},
}
LISTS: dict[str, dict[str, Any]] = {
    "/v1/files": {
        **WINDOW,
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10_000},
        "purpose": {"type": "string"},
    },
    "/v1/vector_stores": WINDOW,
    "/v1/vector_stores/{store_id}/files": {**WINDOW, "filter": {"enum": list(STATES)}},
    "/v1/vector_stores/{store_id}/file_batches/{batch_id}/files": {
        **WINDOW,
        "filter": {"enum": list(STATES)},
    },
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the app's routes."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    refs, definitions = models_json_schema(
        [(model, "validation") for model in BODIES.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions.get("$defs", {})
    schemas["Error"] = ERROR
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # mapped to 400
            operation["responses"]["default"] = {
                "description": "Any failure",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
        if path in BODIES:
            reference = refs[BODIES[path], "validation"]
            operations["post"]["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": reference}},
            }
        if path in LISTS:
            operations["get"].setdefault("parameters", []).extend(
                {"name": name, "in": "query", "required": False, "schema": schema}
                for name, schema in LISTS[path].items()
            )
    document["paths"]["/v1/files"]["post"]["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": {"schema": FORM}},
    }
    return document
