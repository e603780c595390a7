"""Whatever arrives, a route gets a turn or a refusal that it can answer with, and never anything else."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import InsufficientScope, InvalidValue, ServerError
from server.wire.chat import ChatRequest, read_chat
from server.wire.completions import CompletionRequest, read_completion
from server.wire.embeddings import EmbeddingRequest, read_embedding
from server.wire.problems import problem_of
from server.wire.reading import Context

LENIENT = Context(id="x-1", created=7, unknown_fields="report")
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
LEAVES |= st.sampled_from(
    ["text", "file_search", "json_schema", "assistant", "none", "<text>", "<list>", "[key]"]
)
KEYS = st.text(max_size=8) | st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "name",
        "schema",
        "json_schema",
        "ranking_options",
        "at",
        "<list>",
        "enum",
    ]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
READERS: dict[str, tuple[Callable[[bytes], Any], dict[str, Any], list[str]]] = {
    "chat": (
        lambda body: read_chat(body, LENIENT),
        {"model": "m", "messages": [{"role": "user", "content": "x"}]},
        list(ChatRequest.model_fields),
    ),
    "completions": (
        lambda body: read_completion(body, LENIENT),
        {"model": "m", "prompt": "x"},
        list(CompletionRequest.model_fields),
    ),
    "embeddings": (
        lambda body: read_embedding(body, dimension=3, unknown_fields="report"),
        {"model": "m", "input": "x"},
        list(EmbeddingRequest.model_fields),
    ),
}


@pytest.mark.parametrize("route", READERS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_of_any_field_is_read_or_refused(route: str, data: st.DataObject):
    read, smallest, names = READERS[route]
    fields = data.draw(st.dictionaries(st.sampled_from(names) | KEYS, JSON, max_size=3))
    with suppress(InvalidValue, InsufficientScope):
        read(orjson.dumps({**smallest, **fields}))


@given(body=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(body: bytes):
    with pytest.raises(ServerError):
        read_chat(body, LENIENT)


def walk(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
    elif isinstance(value, str):
        yield value


CANARY = "hunter2"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": CANARY, "content": "x"}]},
        {"messages": [{"role": "user", "content": {"x": CANARY}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}, {"type": CANARY}]}]},
        {"stop": [CANARY * 10]},
        {"temperature": CANARY},
        {"tools": [{"type": CANARY}]},
        {"tool_choice": CANARY},
        {"metadata": {"k": [CANARY]}},
        {"response_format": {"type": CANARY}},
        {"fewshot": {"template": [CANARY]}},
    ],
)
def test_a_refusal_does_not_repeat_values(fields: dict[str, Any]):
    with pytest.raises(ServerError) as refusal:
        read_chat(orjson.dumps({**READERS["chat"][1], **fields}), LENIENT)
    assert CANARY not in "".join(walk(problem_of(refusal.value).body()))
    assert refusal.value.__context__ is None or CANARY not in str(refusal.value.__context__)
