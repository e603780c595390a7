"""What a chat body becomes, and what it is refused for."""

from typing import Any

import orjson
import pytest

from prompts.records import Message
from server.errors import InvalidValue, MissingParameter, UnsupportedParameter
from server.records import Piece, Sampling, Turn
from server.wire.chat import chat_body
from tests.server.samples import (
    CITATION,
    HELLO,
    SOURCE,
    ask,
    chat_turn,
    client_hearing,
    plan_of,
    reply_to,
    token,
)


def test_the_smallest_request_leaves_everything_to_those_behind():
    turn = ask()
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
    turn = ask(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
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
    assert ask(messages=[HELLO, answer, HELLO]).messages[1] == Message("assistant", "Hi")


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"messages": None}, MissingParameter, "messages"),
    ({"messages": []}, InvalidValue, "messages"),
    ({"messages": [{"role": "user"}]}, MissingParameter, "messages[0].content"),
    ({"messages": [HELLO, {"role": "function", "content": "x"}]}, UnsupportedParameter, "messages[1].role"),
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
    ({"tools": [{"type": "web_search"}]}, UnsupportedParameter, "tools[0].type"),
    ({"tool_choice": {"type": "mcp", "function": {"name": "f"}}}, UnsupportedParameter, "tool_choice.type"),
    ({"chat_template_kwargs": {"x": 1}}, UnsupportedParameter, "chat_template_kwargs.x"),
    ({"fewshot": {"demos": 33}}, InvalidValue, "fewshot.demos"),
    ({"fewshot": {"demo": 3}}, UnsupportedParameter, "fewshot.demo"),
    ({"fewshot": {"citations": "footnotes"}}, InvalidValue, "fewshot.citations"),
    ({"fewshot": {"unsupported": True}, "n": 2}, InvalidValue, "fewshot.unsupported"),
    ({"fewshot": {"arm": "b"}}, UnsupportedParameter, "fewshot.arm"),
    ({"response_format": {"type": "json_schema"}}, MissingParameter, "response_format.json_schema"),
    ({"no_such_field": 1}, UnsupportedParameter, "no_such_field"),
]


@pytest.mark.parametrize(("fields", "kind", "param"), REFUSED, ids=[param for _, _, param in REFUSED])
def test_a_refusal_names_the_place(fields: dict[str, Any], kind: type[Exception], param: str):
    with pytest.raises(InvalidValue) as refusal:
        ask(**fields)
    assert type(refusal.value) is kind
    assert refusal.value.param == param


def test_sampling_and_bounds_arrive_as_they_were_said():
    turn = ask(
        temperature=0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        frequency_penalty=-2,
        presence_penalty=2,
        repetition_penalty=1.1,
        seed=-(2**63),
        n=8,
        stop="END",
        logit_bias={"5": -100, "0": 1.5},
        max_tokens=9,
        max_completion_tokens=9,
        ignore_eos=True,
        chat_template_kwargs={"enable_thinking": False},
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    )
    assert turn.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        frequency_penalty=-2,
        presence_penalty=2,
        repetition_penalty=1.1,
        seed=-(2**63),
    )
    assert (turn.n, turn.stop, turn.max_tokens, turn.ignore_eos) == (8, ("END",), 9, True)
    assert turn.logit_bias == {5: -100, 0: 1.5}
    assert turn.thinking is False
    assert (turn.stream, turn.include_usage, turn.continuous_usage) == (True, True, True)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs_are_none_chosen_only_or_the_best(fields: dict[str, Any], wanted: int | None):
    assert ask(**fields).logprobs == wanted


ANY = {"type": "object", "properties": {"pattern": {"type": "string", "enum": ["a", None]}}}


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": ANY, "strict": True}}, ANY),
    ],
)
def test_a_format_becomes_a_schema(form: dict[str, Any] | None, schema: dict[str, Any] | None):
    assert ask(response_format=form).schema == schema


def nested(levels: int) -> dict[str, Any]:
    return {"items": nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    ("schema", "kind", "below"),
    [
        ({"properties": {"a": {"pattern": "x"}}}, UnsupportedParameter, ".properties.a.pattern"),
        ({"patternProperties": {"x": {}}}, UnsupportedParameter, ".patternProperties"),
        ({"anyOf": [{}, {"$ref": "https://x/y"}]}, InvalidValue, ".anyOf[1].$ref"),
        (nested(17), InvalidValue, ""),
        ({"description": "x" * 16_384}, InvalidValue, ""),
        (5, InvalidValue, ""),
    ],
    ids=["pattern", "patternProperties", "remote ref", "deep", "large", "no object"],
)
def test_a_schema_that_could_hurt_the_engine_is_refused(schema: Any, kind: type[Exception], below: str):
    with pytest.raises(InvalidValue) as refusal:
        ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert type(refusal.value) is kind
    assert refusal.value.param == "response_format.json_schema.schema" + below


def test_a_body_is_what_the_client_reads():
    plan = plan_of(chat_turn(logprobs=1, metadata={"k": "v"}), sources=(SOURCE,), grounding="grounded")
    piece = Piece(
        text="30 days [1]",
        tokens=(1, 2),
        logprobs=(token("30", -0.1, "31"), token(" days [1]", -0.2)),
        finish="stop",
        citations=(CITATION,),
    )
    body = orjson.dumps(chat_body(reply_to(plan, [piece]), "https://f/"))
    answer = client_hearing(body).chat.completions.create(model="m", messages=[])
    choice = answer.choices[0]
    assert choice.message.content == "30 days [1]"
    assert choice.message.annotations
    link = choice.message.annotations[0].url_citation
    assert (link.url, link.title) == ("https://f/v1/files/file-a/content#page=3", "policy.md, p. 3")
    assert choice.message.content[link.start_index : link.end_index] == "[1]"
    assert choice.logprobs
    assert choice.logprobs.content
    assert [entry.token for entry in choice.logprobs.content] == ["30", " days [1]"]
    assert [other.token for other in choice.logprobs.content[0].top_logprobs] == ["30"]
    assert answer.usage
    assert answer.usage.total_tokens == 5
    assert answer.metadata == {"k": "v"}
