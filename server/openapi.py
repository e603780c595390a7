"""/openapi.json: FastAPI's skeleton with the request bodies of `server/wire/`."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from indexer.ownership import STATES
from server.wire.adapters import (
    AdapterRequest,
    LoadLoraRequest,
    Nothing,
    PromoteRequest,
    RollbackRequest,
    UnloadLoraRequest,
    UnloadRequest,
)
from server.wire.chat import ChatRequest
from server.wire.classify import ClassifyRequest
from server.wire.completions import CompletionRequest
from server.wire.embeddings import EmbeddingRequest
from server.wire.experiments import ExperimentPromotion, ExperimentRollback, ExperimentStop
from server.wire.feedback import FeedbackRequest
from server.wire.operations import DURABLE, IDEMPOTENCY_KEY, JSON, OPEN, answers, refusals
from server.wire.responses import INCLUDABLE, ResponsesRequest
from server.wire.shapes import ERROR
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
    "/v1/classify": ClassifyRequest,
    "/v1/feedback": FeedbackRequest,
    "/v1/adapters": AdapterRequest,
    "/v1/adapters/rollback": RollbackRequest,
    "/v1/adapters/{adapter_id}/load": Nothing,
    "/v1/adapters/{adapter_id}/unload": UnloadRequest,
    "/v1/adapters/{adapter_id}/promote": PromoteRequest,
    "/v1/load_lora_adapter": LoadLoraRequest,
    "/v1/unload_lora_adapter": UnloadLoraRequest,
    "/v1/experiments/{experiment}/promote": ExperimentPromotion,
    "/v1/experiments/{experiment}/stop": ExperimentStop,
    "/v1/experiments/{experiment}/rollback": ExperimentRollback,
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
ADAPTER_FORM = {
    "type": "object",
    "required": ["file", "name"],
    "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "name": {"type": "string"},
        "version": {"type": "string"},
    },
}
WINDOW = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    "order": {"enum": ["asc", "desc"], "default": "desc"},
    "after": {"type": "string"},
    "before": {"type": "string"},
}
INCLUDE = {
    "include[]": {"type": "array", "items": {"type": "string", "pattern": INCLUDABLE}},
    "include": {"type": "array", "items": {"type": "string", "pattern": INCLUDABLE}},
}
QUERIES: dict[str, dict[str, Any]] = {
    "/v1/files": {
        **WINDOW,
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10_000},
        "purpose": {"type": "string"},
    },
    "/v1/responses/{response_id}": INCLUDE,
    "/v1/responses/{response_id}/input_items": {**WINDOW, **INCLUDE},
    "/v1/adapters": WINDOW,
    "/v1/vector_stores": WINDOW,
    "/v1/vector_stores/{store_id}/files": {**WINDOW, "filter": {"enum": list(STATES)}},
    "/v1/vector_stores/{store_id}/file_batches/{batch_id}/files": {
        **WINDOW,
        "filter": {"enum": list(STATES)},
    },
}
# An object's id, put into the paths of the operations that work on it: path → the parameter it fills.
MADE_BY = {
    "/v1/adapters": "adapter_id",
    "/v1/files": "file_id",
    "/v1/vector_stores": "store_id",
    "/v1/vector_stores/{store_id}/files": "file_id",
    "/v1/vector_stores/{store_id}/file_batches": "batch_id",
    "/v1/responses": "response_id",
}
SCHEME = "key"


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the app's routes."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    refs, definitions = models_json_schema(
        [(model, "validation") for model in BODIES.values()], ref_template="#/components/schemas/{model}"
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {name: _with_nulls(schema) for name, schema in definitions.get("$defs", {}).items()}
    schemas["Error"] = ERROR
    document["components"]["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
    scopes = _scopes(app)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path not in OPEN:
                operation["security"] = [{SCHEME: [scopes[path, method]]}]
            operation["responses"] = _responses(path, method)
        if path in BODIES:
            reference = refs[BODIES[path], "validation"]
            operations["post"]["requestBody"] = {
                "required": bool(BODIES[path].model_json_schema().get("required")),
                "content": {JSON: {"schema": reference}},
            }
        if path in DURABLE:
            operations["post"].setdefault("parameters", []).append(
                {"name": "Idempotency-Key", "in": "header", "required": False, "schema": IDEMPOTENCY_KEY}
            )
        if path in QUERIES:
            operations["get"].setdefault("parameters", []).extend(
                {"name": name, "in": "query", "required": False, "schema": schema}
                for name, schema in QUERIES[path].items()
            )
    form = {"multipart/form-data": {"schema": ADAPTER_FORM}}
    document["paths"]["/v1/adapters"]["post"]["requestBody"]["content"] |= form
    document["paths"]["/v1/files"]["post"]["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": {"schema": FORM}},
    }
    _link(document["paths"])
    return document


def _scopes(app: FastAPI) -> dict[tuple[str, str], str]:
    """The scope that a key needs, by path and method: OpenAPI calls it a role of the security scheme."""
    return {
        (route.path_format, method.lower()): scope
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
        for dependency in route.dependant.dependencies
        if (scope := getattr(dependency.call, "scope", None)) is not None
    }


def _responses(path: str, method: str) -> dict[str, Any]:
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    failed = {str(status): {"description": says, "content": error} for status, says in refusals(path, method)}
    if path == "/ready":
        failed["503"]["content"] = answers(path, method)
    content = answers(path, method)
    return {"200": {"description": "done", "content": content}, **failed} if content else failed


def _with_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """Null means absent (openai-surface §0), so it fits what may be left out or is unknown."""
    required = schema.get("required", [])
    properties = {
        name: value if name in required else {"anyOf": [value, {"type": "null"}]}
        for name, value in schema.get("properties", {}).items()
    }
    if schema.get("additionalProperties") is False:
        schema = {**schema, "additionalProperties": {"type": "null"}}
    return {**schema, "properties": properties} if properties else schema


def _link(paths: dict[str, Any]) -> None:
    """OpenAPI links from what makes a thing to what works on it."""
    for source, fills in MADE_BY.items():
        known = [*re.findall(r"{(\w+)}", source), fills]
        links = {
            f"{method} {path}": {
                "operationId": operation["operationId"],
                "parameters": {
                    name: "$response.body#/id" if name == fills else f"$request.path.{name}" for name in known
                },
            }
            for path, operations in paths.items()
            for method, operation in operations.items()
            if path != source and re.findall(r"{(\w+)}", path) == known
        }
        paths[source]["post"]["responses"]["200"]["links"] = links
