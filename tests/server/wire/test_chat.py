"""What a chat body becomes, and what it is refused for."""

from typing import Any

import orjson
import pytest

from prompts.records import Message
from server.errors import InvalidValue, MissingParameter, UnsupportedParameter
from server.records import Turn
from server.wire.chat import read_chat
from server.wire.reading import Context

HELLO = {"role": "user", "content": "Hello"}


def read(*, context: Context | None = None, **fields: Any) -> Turn:
    body = {"model": "m", "messages": [HELLO], **fields}
    return read_chat(orjson.dumps(body), context or Context(id="chatcmpl-1", created=7))


def test_the_smallest_request_leaves_everything_to_those_behind():
    turn = read()
    assert turn == Turn(
        id="chatcmpl-1",
        created=7,
        tenant="local",
        model="m",
        messages=(Message("user", "Hello"),),
        unit="chatcmpl-1",
        unit_kind="request",
    )


def test_developer_speaks_as_system_and_parts_are_lines():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    turn = read(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert turn.messages == (Message("system", "Be brief."), Message("user", "one\ntwo"))


def test_an_echoed_answer_is_accepted_whole_and_only_its_text_is_kept():
    answer = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [{"type": "url_citation"}],
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "fewshot": {"id": "x"},
    }
    assert read(messages=[HELLO, answer, HELLO]).messages[1] == Message("assistant", "Hi")


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"messages": None}, MissingParameter, "messages"),
    ({"messages": []}, InvalidValue, "messages"),
    ({"messages": [{"role": "user"}]}, MissingParameter, "messages[0].content"),
    ({"messages": [HELLO, {"role": "tool", "content": "x"}]}, UnsupportedParameter, "messages[1].role"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        UnsupportedParameter,
        "messages[0].content[0].type",
    ),
    ({"messages": [{**HELLO, "annotations": []}]}, UnsupportedParameter, "messages[0].annotations"),
    ({"temperature": 2.1}, InvalidValue, "temperature"),
    ({"temperature": True}, InvalidValue, "temperature"),
    ({"top_p": 0}, InvalidValue, "top_p"),
    ({"top_k": 0}, InvalidValue, "top_k"),
    ({"n": True}, InvalidValue, "n"),
    ({"n": 9}, InvalidValue, "n"),
    ({"seed": 2**63}, InvalidValue, "seed"),
    ({"stop": ["a"] * 5}, InvalidValue, "stop"),
    ({"stop": ["a", "b" * 65]}, InvalidValue, "stop[1]"),
    ({"logit_bias": {"hello": 1}}, InvalidValue, "logit_bias"),
    ({"logit_bias": {"5": 101}}, InvalidValue, "logit_bias.5"),
    ({"logit_bias": {str(i): 1 for i in range(301)}}, InvalidValue, "logit_bias"),
    ({"top_logprobs": 2}, InvalidValue, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, InvalidValue, "top_logprobs"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, InvalidValue, "max_completion_tokens"),
    ({"max_tokens": 0}, InvalidValue, "max_tokens"),
    ({"metadata": {"k": 1}}, InvalidValue, "metadata.k"),
    ({"metadata": {str(i): "v" for i in range(17)}}, InvalidValue, "metadata"),
    ({"store": True}, UnsupportedParameter, "store"),
    ({"reasoning_effort": "high"}, UnsupportedParameter, "reasoning_effort"),
    ({"verbosity": "low"}, UnsupportedParameter, "verbosity"),
    ({"modalities": ["audio"]}, UnsupportedParameter, "modalities[0]"),
    ({"include": ["file_search_call.results"]}, UnsupportedParameter, "include[0]"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, UnsupportedParameter, "tools[0].type"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        UnsupportedParameter,
        "tool_choice.type",
    ),
    ({"chat_template_kwargs": {"x": 1}}, UnsupportedParameter, "chat_template_kwargs.x"),
    ({"fewshot": {"demos": 33}}, InvalidValue, "fewshot.demos"),
    ({"fewshot": {"demo": 3}}, UnsupportedParameter, "fewshot.demo"),
    ({"fewshot": {"arm": "b"}}, UnsupportedParameter, "fewshot.arm"),
    ({"response_format": {"type": "json_schema"}}, MissingParameter, "response_format.json_schema"),
    ({"no_such_field": 1}, UnsupportedParameter, "no_such_field"),
]


@pytest.mark.parametrize(("fields", "kind", "param"), REFUSED, ids=[param for _, _, param in REFUSED])
def test_a_refusal_names_the_place(fields: dict[str, Any], kind: type[Exception], param: str):
    with pytest.raises(InvalidValue) as refusal:
        read(**fields)
    assert type(refusal.value) is kind
    assert refusal.value.param == param
