"""What a chat body becomes, and what it is refused for."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from prompts.records import Message
from server.errors import InsufficientScope, InvalidValue, MissingParameter, UnsupportedParameter
from server.records import Piece, Sampling, Search, TemplateUse, Turn, Wishes
from server.wire.chat import chat_body, read_chat
from server.wire.reading import Context
from tests.server.samples import CITATION, SOURCE, chat_turn, client_hearing, plan_of, reply_to, token

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
    ({"fewshot": {"citations": "links"}}, UnsupportedParameter, "fewshot.citations"),
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


def test_sampling_and_bounds_arrive_as_they_were_said():
    turn = read(
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
    assert read(**fields).logprobs == wanted


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
    assert read(response_format=form).schema == schema


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
        read(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert type(refusal.value) is kind
    assert refusal.value.param == "response_format.json_schema.schema" + below


TOOL = {"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}


def test_the_tool_says_where_and_how_to_search():
    tool = {
        **TOOL,
        "max_num_results": 7,
        "search_mode": "keyword",
        "ranking_options": {"ranker": "auto", "score_threshold": 0.25},
    }
    assert read(tools=[tool], tool_choice="required").search == Search(
        stores=("vs_1", "vs_2"), top=7, mode="keyword", threshold=0.25, required=True
    )
    assert read(tools=[TOOL], tool_choice="none").search == Search()
    assert read(tools=[TOOL], tool_choice={"type": "file_search"}).search.required
    assert read(fewshot={"vector_store_ids": ["vs_1"]}).search == Search(stores=("vs_1",))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{**TOOL, "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "max_num_results": 51}]}, "tools[0].max_num_results"),
        ({"tools": [{**TOOL, "filters": {"type": "eq", "key": "a", "value": 1}}]}, "tools[0].filters"),
        ({"tools": [TOOL], "fewshot": {"vector_store_ids": ["a"]}}, "fewshot.vector_store_ids"),
    ],
)
def test_a_search_that_cannot_be_done_as_asked_is_refused(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidValue) as refusal:
        read(**fields)
    assert refusal.value.param == param


def test_the_first_name_given_is_the_unit():
    names: list[tuple[str, dict[str, Any]]] = [
        ("metadata", {"metadata": {"unit_id": "metadata"}}),
        ("user", {"user": "user"}),
        ("safety_identifier", {"safety_identifier": "safety_identifier"}),
        ("unit", {"fewshot": {"unit": "unit"}}),
    ]
    context = Context(id="chatcmpl-1", created=7, unit_header="header")
    fields: dict[str, Any] = {}
    assert (read(context=context).unit, read(context=context).unit_kind) == ("header", "header")
    for name, more in names:
        fields |= more
        turn = read(context=context, **fields)
        assert (turn.unit, turn.unit_kind) == (name, name)


def test_an_empty_user_is_nobody():
    assert read(user="").unit_kind == "request"


def test_wishes_arrive():
    asked = {"template": "grounded@4", "variables": {"tone": "dry"}, "demos": 0, "when_empty": "error"}
    assert read(fewshot=asked).wishes == Wishes(
        template="grounded@4", variables={"tone": "dry"}, demos=0, when_empty="error"
    )


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


def test_provenance_names_everything_the_answer_was_made_from():
    turn = chat_turn(ignored=("colour",), unit_kind="user")
    unused = replace(SOURCE, n=0, chunk_id="ch_10")
    plan = plan_of(
        turn,
        sources=(SOURCE, unused),
        template=TemplateUse(name="grounded", version="4", sha256="d"),
        generations={"vs_1": 12},
        dropped={"sources": 1},
    )
    piece = Piece(text="x [1]", finish="stop", citations=(CITATION,))
    said = chat_body(reply_to(plan, [piece]))["fewshot"]
    assert [(source["used"], source["cited"]) for source in said["sources"]] == [(True, True), (False, False)]
    assert said["template"] == {"name": "grounded", "version": "4", "sha256": "d"}
    assert said["dropped"] == {"sources": 1, "demos": 0, "turns": 0}
    assert said["citations"][0]["marker_start"] == 8
    assert (said["ignored"], said["unit_kind"], said["generations"]) == (["colour"], "user", {"vs_1": 12})
    assert "messages" not in said
    assert "text" not in said["sources"][0]


def test_inspection_needs_the_scope():
    with pytest.raises(InsufficientScope):
        read(fewshot={"inspect": True})
    auditor = Context(id="chatcmpl-1", created=7, scopes=frozenset({"infer", "audit"}))
    assert read(context=auditor, fewshot={"inspect": True}).wishes.inspect


def test_inspection_shows_the_prompt_and_the_sources_text():
    turn = chat_turn(wishes=Wishes(inspect=True))
    plan = plan_of(turn, sources=(SOURCE,), messages=(Message("user", "Hello"),))
    said = chat_body(reply_to(plan, [Piece(text="x", finish="stop")]))["fewshot"]
    assert said["messages"] == [{"role": "user", "content": "Hello"}]
    assert said["sources"][0]["text"] == SOURCE.text
