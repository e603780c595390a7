"""JSON Schema of what the routes answer, for /openapi.json. Every property named is always there.

Objects stay open: a later release may say more. The server is held to it by schemathesis (a test).
"""

from typing import Any

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}
WHOLE: Shape = {"type": "integer"}
COUNT: Shape = {"type": "integer", "minimum": 0}
NUMBER: Shape = {"type": "number"}
YES_OR_NO: Shape = {"type": "boolean"}
ANYTHING: Shape = {}
TIME: Shape = {"type": "integer", "minimum": 0, "description": "seconds since the epoch"}
PAIRS: Shape = {"type": "object", "additionalProperties": TEXT}


def one_of(*values: str | bool) -> Shape:
    return {"enum": list(values)}


def maybe(shape: Shape) -> Shape:
    return {"anyOf": [shape, {"type": "null"}]}


def many(shape: Shape) -> Shape:
    return {"type": "array", "items": shape}


def made_of(**properties: Shape) -> Shape:
    return {"type": "object", "required": list(properties), "properties": properties}


def with_optional(shape: Shape, **properties: Shape) -> Shape:
    return {**shape, "properties": {**shape["properties"], **properties}}


def page_of(shape: Shape) -> Shape:
    """A cursor list (openai-surface §3)."""
    return made_of(
        object=one_of("list"),
        data=many(shape),
        first_id=maybe(TEXT),
        last_id=maybe(TEXT),
        has_more=YES_OR_NO,
    )


def gone(kind: str) -> Shape:
    return made_of(id=TEXT, object=one_of(kind), deleted=one_of(True))


ERROR = made_of(error=made_of(message=TEXT, type=TEXT, param=maybe(TEXT), code=maybe(TEXT)))

PLACE = {
    "page_start": maybe(WHOLE),
    "page_end": maybe(WHOLE),
    "char_start": COUNT,
    "char_end": COUNT,
}
CITATION = made_of(
    n={"type": "integer", "minimum": 1},
    file_id=TEXT,
    filename=TEXT,
    vector_store_id=TEXT,
    chunk_id=TEXT,
    generation=COUNT,
    **PLACE,
    answer_start=COUNT,
    answer_end=COUNT,
    marker_start=COUNT,
    marker_end=COUNT,
    check=one_of("span", "chunk"),
    support=maybe({"type": "number", "minimum": 0, "maximum": 1}),
)
SOURCE = made_of(
    n=COUNT,
    file_id=TEXT,
    filename=TEXT,
    vector_store_id=TEXT,
    chunk_id=TEXT,
    **PLACE,
    score={"type": "number", "minimum": 0, "maximum": 1},
    used=YES_OR_NO,
    cited=YES_OR_NO,
)
PROVENANCE = made_of(
    id=TEXT,
    experiment=maybe(TEXT),
    phase=maybe(COUNT),
    arm=maybe(TEXT),
    assigned=YES_OR_NO,
    served=maybe(TEXT),
    unit_kind=TEXT,
    model=made_of(base=TEXT, base_sha256=TEXT, alias=maybe(TEXT), adapter=maybe(TEXT)),
    template=maybe(made_of(name=TEXT, version=TEXT, sha256=TEXT)),
    demos=made_of(requested=maybe(COUNT), used=many(TEXT), pool_sha256=maybe(TEXT)),
    generations={"type": "object", "additionalProperties": COUNT},
    prompt_sha256=TEXT,
    sampling=made_of(temperature=NUMBER, top_p=NUMBER, seed=maybe(WHOLE), max_tokens=COUNT, stop=many(TEXT)),
    grounding=one_of("not_requested", "grounded", "ungrounded", "refused"),
    sources=many(SOURCE),
    queries=many(TEXT),
    rewrite=maybe(one_of("off", "join", "model", "failed")),
    citations=many(CITATION),
    citations_dropped=COUNT,
    dropped=made_of(sources=COUNT, demos=COUNT, turns=COUNT),
    ignored=many(TEXT),
    timing=made_of(queue_seconds=NUMBER, retrieval_seconds=maybe(NUMBER), total_seconds=maybe(NUMBER)),
)

USAGE = made_of(
    prompt_tokens=COUNT,
    completion_tokens=COUNT,
    total_tokens=COUNT,
    prompt_tokens_details=made_of(cached_tokens=COUNT),
    completion_tokens_details=made_of(reasoning_tokens=COUNT),
)
TOKEN = made_of(token=TEXT, bytes=many({"type": "integer", "minimum": 0, "maximum": 255}), logprob=NUMBER)
TOKEN_WITH_RIVALS = {
    **TOKEN,
    "required": [*TOKEN["required"], "top_logprobs"],
    "properties": {**TOKEN["properties"], "top_logprobs": many(TOKEN)},
}
LOGPROBS = made_of(content=many(TOKEN_WITH_RIVALS), refusal={"type": "null"})
URL_CITATION = made_of(
    type=one_of("url_citation"),
    url_citation=made_of(url=TEXT, title=TEXT, start_index=COUNT, end_index=COUNT),
    fewshot=CITATION,
)
FINISH = one_of("stop", "length", "tool_calls")
TOOL_CALL = made_of(id=TEXT, type=one_of("function"), function=made_of(name=TEXT, arguments=TEXT))
CHAT_COMPLETION = made_of(
    id=TEXT,
    object=one_of("chat.completion"),
    created=TIME,
    model=TEXT,
    choices=many(
        made_of(
            index=COUNT,
            message=with_optional(
                made_of(
                    role=one_of("assistant"),
                    content=maybe(TEXT),
                    refusal={"type": "null"},
                    annotations=many(URL_CITATION),
                ),
                tool_calls=many(TOOL_CALL),
            ),
            logprobs=maybe(LOGPROBS),
            finish_reason=FINISH,
        )
    ),
    usage=USAGE,
    system_fingerprint=TEXT,
    service_tier=one_of("default"),
    metadata=PAIRS,
    fewshot=PROVENANCE,
)
COMPLETION = made_of(
    id=TEXT,
    object=one_of("text_completion"),
    created=TIME,
    model=TEXT,
    choices=many(
        made_of(
            index=COUNT,
            text=TEXT,
            logprobs=maybe(
                made_of(
                    tokens=many(TEXT),
                    token_logprobs=many(maybe(NUMBER)),
                    top_logprobs=many(maybe({"type": "object", "additionalProperties": NUMBER})),
                    text_offset=many(COUNT),
                )
            ),
            finish_reason=FINISH,
        )
    ),
    usage=USAGE,
    system_fingerprint=TEXT,
    fewshot=PROVENANCE,
)
