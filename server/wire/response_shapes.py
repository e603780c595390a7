"""JSON Schema of the response object and its items (openai-surface §7.3)."""

from server.wire.shapes import (
    ANYTHING,
    CITATION,
    COUNT,
    NUMBER,
    PAIRS,
    PLACE,
    PROVENANCE,
    TEXT,
    TIME,
    TOKEN_WITH_RIVALS,
    YES_OR_NO,
    made_of,
    many,
    maybe,
    one_of,
)

STATUS = one_of("in_progress", "completed", "incomplete", "failed")
FILE_CITATION = made_of(
    type=one_of("file_citation"), file_id=TEXT, filename=TEXT, index=COUNT, fewshot=CITATION
)
MESSAGE = made_of(
    type=one_of("message"),
    id=TEXT,
    role=one_of("assistant"),
    status=STATUS,
    content=many(
        made_of(
            type=one_of("output_text"),
            text=TEXT,
            annotations=many(FILE_CITATION),
            logprobs=many(TOKEN_WITH_RIVALS),
        )
    ),
)
SEARCH = made_of(
    type=one_of("file_search_call"),
    id=TEXT,
    status=STATUS,
    queries=many(TEXT),
    results=maybe(
        many(
            made_of(
                file_id=TEXT,
                filename=TEXT,
                score=NUMBER,
                text=TEXT,
                attributes={"type": "object"},
                fewshot=made_of(chunk_id=TEXT, vector_store_id=TEXT, used=YES_OR_NO, **PLACE),
            )
        )
    ),
)
CALL = made_of(type=one_of("function_call"), id=TEXT, call_id=TEXT, name=TEXT, arguments=TEXT, status=STATUS)
RESPONSE = made_of(
    id=TEXT,
    object=one_of("response"),
    created_at=TIME,
    completed_at=maybe(TIME),
    status=STATUS,
    error=maybe(made_of(code=TEXT, message=TEXT)),
    incomplete_details=maybe(made_of(reason=TEXT)),
    instructions=maybe(TEXT),
    model=TEXT,
    output=many({"anyOf": [MESSAGE, SEARCH, CALL]}),
    parallel_tool_calls=YES_OR_NO,
    temperature=NUMBER,
    top_p=NUMBER,
    tool_choice=ANYTHING,
    tools=many({"type": "object"}),
    max_output_tokens=maybe(COUNT),
    previous_response_id=maybe(TEXT),
    prompt=maybe({"type": "object"}),
    metadata=PAIRS,
    background=one_of(False),
    store=YES_OR_NO,
    truncation=one_of("auto", "disabled"),
    text=made_of(format={"type": "object"}),
    top_logprobs=COUNT,
    service_tier=one_of("default"),
    safety_identifier=maybe(TEXT),
    user=maybe(TEXT),
    usage=maybe(
        made_of(
            input_tokens=COUNT,
            input_tokens_details=made_of(cached_tokens=COUNT, cache_write_tokens=COUNT),
            output_tokens=COUNT,
            output_tokens_details=made_of(reasoning_tokens=COUNT),
            total_tokens=COUNT,
        )
    ),
    fewshot=PROVENANCE,
)
INPUT_ITEM = made_of(type=TEXT, id=TEXT)
