"""Which shape each operation answers with, and which statuses it may answer with instead."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from server.wire.experiments import DECISION, EXPERIMENT, REPORT
from server.wire.replay import RECORD, REPLAY
from server.wire.response_shapes import INPUT_ITEM, RESPONSE
from server.wire.shapes import (
    ANYTHING,
    CHAT_COMPLETION,
    COMPLETION,
    COUNT,
    NUMBER,
    TEXT,
    TIME,
    YES_OR_NO,
    Shape,
    gone,
    made_of,
    many,
    maybe,
    one_of,
    page_of,
)
from server.wire.store_shapes import BATCH, CONTENT_PAGE, FILE, SEARCH_PAGE, STORE, STORE_FILE

JSON = "application/json"
SHARES: Shape = {
    "type": "object",
    "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
}
MODEL = made_of(
    id=TEXT,
    object=one_of("model"),
    created=TIME,
    owned_by=TEXT,
    root=TEXT,
    parent=maybe(TEXT),
    max_model_len=maybe(COUNT),
    fewshot=made_of(kind=TEXT, sha256=maybe(TEXT), loaded=YES_OR_NO),
)
EMBEDDINGS = made_of(
    object=one_of("list"),
    model=TEXT,
    data=many(
        made_of(
            object=one_of("embedding"),
            index=COUNT,
            embedding={"anyOf": [many(NUMBER), {"type": "string", "contentEncoding": "base64"}]},
        )
    ),
    usage=made_of(prompt_tokens=COUNT, total_tokens=COUNT),
)
ADAPTER = made_of(
    id=TEXT,
    object=one_of("adapter"),
    created_at=TIME,
    name=TEXT,
    version=TEXT,
    kind=TEXT,
    base=TEXT,
    model=TEXT,
    sha256=TEXT,
    bytes=COUNT,
    rank=maybe(COUNT),
    length=maybe(COUNT),
    status=one_of("available", "loading", "loaded", "draining", "failed"),
    in_flight=COUNT,
    load_milliseconds=maybe(NUMBER),
    last_used_at=maybe(TIME),
    error=maybe(TEXT),
    parent=maybe(TEXT),
    metrics={"type": "object"},
    aliases=many(TEXT),
)
PROMOTION = made_of(object=one_of("promotion"), alias=TEXT, before=maybe(TEXT), after=TEXT, at=TIME, by=TEXT)
STEP = made_of(
    object=one_of("adapter.step"),
    at=TIME,
    action=TEXT,
    adapter=TEXT,
    alias=maybe(TEXT),
    before=maybe(TEXT),
    by=TEXT,
    reason=maybe(TEXT),
)
OPINION = made_of(
    id=TEXT,
    object=one_of("feedback"),
    created_at=TIME,
    target=TEXT,
    metric=TEXT,
    value={"type": ["boolean", "number", "string"]},
    choice=COUNT,
    replaced=YES_OR_NO,
    late=YES_OR_NO,
)
CLASSIFIED = made_of(
    id=TEXT,
    object=one_of("list"),
    created=TIME,
    model=TEXT,
    data=many(
        made_of(
            object=one_of("classification"),
            index=COUNT,
            label=maybe(TEXT),
            text=TEXT,
            probabilities=SHARES,
            logprobs={"type": "object", "additionalProperties": NUMBER},
            demos=many(TEXT),
        )
    ),
    labels=many(TEXT),
    scoring=one_of("first_token", "sequence"),
    calibration=made_of(
        method=one_of("none", "content_free", "batch"),
        prompts=COUNT,
        temperature=NUMBER,
        sha256=maybe(TEXT),
        of={"type": "object"},
    ),
    template=made_of(name=TEXT, version=TEXT, sha256=TEXT),
    usage=made_of(prompt_tokens=COUNT, total_tokens=COUNT),
)
READINESS = made_of(status=one_of("ready", "starting", "draining", "not_ready"))
VERSION = made_of(
    version=TEXT, api=one_of("v1"), engine=made_of(name=TEXT, version=TEXT), embedder=TEXT, models=many(TEXT)
)
STORE_PATH = "/v1/vector_stores/{store_id}"

# Path → method → what a 200 holds. A shape is JSON.
ANSWERS: Mapping[str, Mapping[str, Shape]] = {
    "/health": {"get": made_of(status=one_of("ok"))},
    "/ready": {"get": READINESS},
    "/version": {"get": VERSION},
    "/openapi.json": {"get": made_of(openapi=TEXT, info=ANYTHING, paths={"type": "object"})},
    "/v1/models": {"get": made_of(object=one_of("list"), data=many(MODEL))},
    "/v1/models/{name}": {"get": MODEL},
    "/v1/embeddings": {"post": EMBEDDINGS},
    "/v1/chat/completions": {"post": CHAT_COMPLETION},
    "/v1/completions": {"post": COMPLETION},
    "/v1/responses": {"post": RESPONSE},
    "/v1/responses/{response_id}": {"get": RESPONSE, "delete": gone("response")},
    "/v1/responses/{response_id}/input_items": {"get": page_of(INPUT_ITEM)},
    "/v1/classify": {"post": CLASSIFIED},
    "/v1/feedback": {"post": OPINION},
    "/v1/experiments": {"get": page_of(EXPERIMENT)},
    "/v1/experiments/{experiment}": {"get": EXPERIMENT},
    "/v1/experiments/{experiment}/report": {"get": REPORT},
    "/v1/experiments/{experiment}/promote": {"post": DECISION},
    "/v1/experiments/{experiment}/stop": {"post": DECISION},
    "/v1/experiments/{experiment}/rollback": {"post": DECISION},
    "/v1/replay/{response_id}": {"get": RECORD, "post": REPLAY},
    "/v1/adapters": {"get": page_of(ADAPTER), "post": ADAPTER},
    "/v1/adapters/steps": {"get": made_of(object=one_of("list"), data=many(STEP))},
    "/v1/adapters/rollback": {"post": PROMOTION},
    "/v1/adapters/{adapter_id}": {"get": ADAPTER, "delete": gone("adapter")},
    "/v1/adapters/{adapter_id}/load": {"post": ADAPTER},
    "/v1/adapters/{adapter_id}/unload": {"post": ADAPTER},
    "/v1/adapters/{adapter_id}/promote": {"post": PROMOTION},
    "/v1/files": {"get": page_of(FILE), "post": FILE},
    "/v1/files/{file_id}": {"get": FILE, "delete": gone("file")},
    "/v1/vector_stores": {"get": page_of(STORE), "post": STORE},
    STORE_PATH: {"get": STORE, "post": STORE, "delete": gone("vector_store.deleted")},
    f"{STORE_PATH}/search": {"post": SEARCH_PAGE},
    f"{STORE_PATH}/files": {"get": page_of(STORE_FILE), "post": STORE_FILE},
    f"{STORE_PATH}/files/{{file_id}}": {
        "get": STORE_FILE,
        "post": STORE_FILE,
        "delete": gone("vector_store.file.deleted"),
    },
    f"{STORE_PATH}/files/{{file_id}}/content": {"get": CONTENT_PAGE},
    f"{STORE_PATH}/file_batches": {"post": BATCH},
    f"{STORE_PATH}/file_batches/{{batch_id}}": {"get": BATCH},
    f"{STORE_PATH}/file_batches/{{batch_id}}/cancel": {"post": BATCH},
    f"{STORE_PATH}/file_batches/{{batch_id}}/files": {"get": page_of(STORE_FILE)},
}
# What a 200 holds that is no JSON: path → media type.
PLAIN: Mapping[str, str] = {
    "/metrics": "text/plain",
    "/v1/files/{file_id}/content": "application/octet-stream",
    "/v1/load_lora_adapter": "text/plain",
    "/v1/unload_lora_adapter": "text/plain",
}
# POSTs with a lasting effect: Idempotency-Key counts there.
DURABLE = frozenset(
    {
        "/v1/adapters",
        "/v1/adapters/rollback",
        *(f"/v1/adapters/{{adapter_id}}/{step}" for step in ("load", "unload", "promote")),
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        *(f"/v1/experiments/{{experiment}}/{step}" for step in ("promote", "stop", "rollback")),
        "/v1/feedback",
        "/v1/files",
        "/v1/vector_stores",
        STORE_PATH,
        f"{STORE_PATH}/files",
        f"{STORE_PATH}/files/{{file_id}}",
        f"{STORE_PATH}/file_batches",
        f"{STORE_PATH}/file_batches/{{batch_id}}/cancel",
    }
)
IDEMPOTENCY_KEY: Shape = {"type": "string", "pattern": "^[!-~]{1,255}$"}
STREAMED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})  # with stream: true
EVENT: Shape = {"type": "object", "required": ["data"], "properties": {"event": TEXT, "data": TEXT}}
OPEN = frozenset({"/health", "/ready"})  # no key


class Refusal(NamedTuple):
    status: int
    says: str


ANY_KEY = (
    Refusal(401, "the key is missing or not valid"),
    Refusal(403, "the key lacks the scope of this route"),
    Refusal(429, "this key, or the server, has too much to do; see retry-after"),
)
ANY = (
    Refusal(400, "what was asked cannot be honoured; `param` names the place"),
    Refusal(404, "there is no such thing under this key"),
    Refusal(405, "the route does not take this method; see allow"),
    Refusal(500, "a bug"),
    Refusal(503, "not now; see retry-after"),
)
CHANGE = (Refusal(409, "another state of the thing stands in the way"),)
BODY = (
    Refusal(408, "the body came too slowly"),
    Refusal(409, "another state of the thing stands in the way, or the same request still runs"),
    Refusal(413, "the body is too large"),
    Refusal(415, "this content type is not supported"),
    Refusal(422, "the same Idempotency-Key came with another body"),
    Refusal(504, "the deadline passed"),
    Refusal(507, "the disk is full"),
)


def refusals(path: str, method: str) -> list[Refusal]:
    """The statuses of openai-surface §2 that this operation can answer with."""
    keyed = () if path in OPEN else ANY_KEY
    changes = BODY if method == "post" else CHANGE if path.startswith("/v1/adapters/") else ()
    return sorted({*ANY, *keyed, *changes})


def answers(path: str, method: str) -> dict[str, Any]:
    """The content of a 200, by media type; nothing where no shape is known, or where there is no 200."""
    if path in PLAIN:
        return {PLAIN[path]: {"schema": {"type": "string"}}}
    shape = ANSWERS.get(path, {}).get(method)
    if shape is None:
        return {}
    content: dict[str, Any] = {JSON: {"schema": shape}}
    if path in STREAMED:
        content["text/event-stream"] = {"schema": EVENT}
    return content
