"""JSON Schema of files, vector stores and what is in them (openai-surface §8, §9)."""

from indexer.ownership import STATES
from server.wire.shapes import (
    COUNT,
    PAIRS,
    PLACE,
    TEXT,
    TIME,
    made_of,
    many,
    maybe,
    one_of,
)

ATTRIBUTES = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
COUNTS = made_of(in_progress=COUNT, completed=COUNT, failed=COUNT, cancelled=COUNT, total=COUNT)
FILE = made_of(
    id=TEXT,
    object=one_of("file"),
    bytes=COUNT,
    created_at=TIME,
    expires_at=maybe(TIME),
    filename=TEXT,
    purpose=one_of("assistants", "user_data"),
    status=one_of("processed"),
)
STORE = made_of(
    id=TEXT,
    object=one_of("vector_store"),
    created_at=TIME,
    name=TEXT,
    description=maybe(TEXT),
    usage_bytes=COUNT,
    file_counts=COUNTS,
    status=one_of("expired", "in_progress", "completed"),
    last_active_at=maybe(TIME),
    expires_after=maybe(made_of(anchor=one_of("last_active_at"), days=COUNT)),
    expires_at=maybe(TIME),
    metadata=PAIRS,
    fewshot=made_of(embedding_model=TEXT, dimension=COUNT, generation=COUNT, chunks=COUNT),
)
STATIC = made_of(max_chunk_size_tokens=COUNT, chunk_overlap_tokens=COUNT)
CHUNKING = {"anyOf": [made_of(type=one_of("static"), static=STATIC), made_of(type=one_of("other"))]}
STORE_FILE = made_of(
    id=TEXT,
    object=one_of("vector_store.file"),
    created_at=TIME,
    vector_store_id=TEXT,
    status=one_of(*STATES),
    last_error=maybe(made_of(code=one_of("server_error", "unsupported_file", "invalid_file"), message=TEXT)),
    usage_bytes=COUNT,
    attributes=ATTRIBUTES,
    chunking_strategy=CHUNKING,
    fewshot=made_of(chunks=maybe(COUNT), pages=maybe(COUNT), stage=TEXT, progress={"type": "number"}),
)
BATCH = made_of(
    id=TEXT,
    object=one_of("vector_store.files_batch"),
    created_at=TIME,
    vector_store_id=TEXT,
    status=one_of("in_progress", "completed", "cancelled", "failed"),
    file_counts=COUNTS,
)
SEARCH_PAGE = made_of(
    object=one_of("vector_store.search_results.page"),
    search_query=many(TEXT),
    data=many(
        made_of(
            file_id=TEXT,
            filename=TEXT,
            score={"type": "number", "minimum": 0, "maximum": 1},
            attributes=ATTRIBUTES,
            content=many(made_of(type=one_of("text"), text=TEXT)),
            fewshot=made_of(chunk_id=TEXT, external_id=maybe(TEXT), **PLACE),
        )
    ),
    has_more=one_of(False),
    next_page={"type": "null"},
    fewshot=made_of(generation=COUNT),
)
CONTENT_PAGE = made_of(
    object=one_of("vector_store.file_content.page"),
    data=many(made_of(type=one_of("text"), text=TEXT, fewshot={"type": "object"})),
    has_more=one_of(False),
    next_page={"type": "null"},
)
