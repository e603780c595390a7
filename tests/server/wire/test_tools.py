"""What becomes of `tools`, `tool_choice` and the messages of calls, and what they are refused for."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.records import Call, Message
from server.calling import NO_CALLS, Calling, Function
from server.errors import InvalidValue, MissingParameter, UnsupportedParameter
from server.wire.chat import read_chat
from server.wire.reading import Context
from server.wire.responses import read_response
from tests.server.samples import HELLO, ask

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer", "default": None}}}
F = {"type": "function", "function": {"name": "f", "description": "Does f.", "parameters": SCHEMA}}
G = {"type": "function", "function": {"name": "g"}}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"]}
BOTH = (Function(name="f", description="Does f.", parameters=SCHEMA), Function(name="g"))
NAMED = {"type": "function", "function": {"name": "g"}}


def call(name: str = "f", arguments: str = "{}", id: str = "c1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def gave(id: str = "c1", text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def test_the_choice_says_which_functions_may_or_must_be_called():
    assert ask(tools=[F, G]).calling == Calling(functions=BOTH)
    assert ask(tools=[F, G], parallel_tool_calls=False).calling == Calling(functions=BOTH, parallel=False)
    assert ask(tools=[F, G], tool_choice="required").calling == Calling(functions=BOTH, choice="required")
    assert ask(tools=[F, G], tool_choice=NAMED).calling == Calling(functions=BOTH, choice="named", name="g")
    assert ask(tools=[F, G], tool_choice="none").calling == NO_CALLS
    assert ask(tools=[SEARCH]).calling == NO_CALLS


def test_a_search_beside_functions_runs_whatever_is_said_of_these():
    for choice in ("auto", "required", NAMED):
        search = ask(tools=[F, G, SEARCH], tool_choice=choice).search
        assert search.stores == ("vs_1",)
        assert not search.required
    forced = ask(tools=[F, SEARCH], tool_choice={"type": "file_search"})
    assert forced.search.required
    assert forced.calling == NO_CALLS
    assert ask(tools=[F, SEARCH], tool_choice="none").search.stores == ()


def test_both_routes_read_functions_alike():
    flat = [{"type": "function", **tool["function"]} for tool in (F, G)]
    body = {"input": "Hello", "tools": flat, "tool_choice": {"type": "function", "name": "g"}}
    turn = read_response(orjson.dumps(body), Context(id="resp_1", created=7)).turn
    assert turn.calling == ask(tools=[F, G], tool_choice=NAMED).calling


def test_messages_of_calls_become_turns():
    messages = ask(messages=[HELLO, called(call(arguments='{"x":  1}')), gave(), HELLO]).messages
    assert messages[1:3] == (
        Message("assistant", "", (Call("c1", "f", '{"x": 1}'),)),
        Message("tool", "done", answers="c1"),
    )


LARGE = {"type": "object", "description": "x" * 16_000}
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"tools": [F, F]}, InvalidValue, "tools"),
    ({"tools": [SEARCH, SEARCH]}, InvalidValue, "tools"),
    ({"tools": [G] * 129}, InvalidValue, "tools"),
    ({"tools": [{"type": "function"}]}, MissingParameter, "tools[0].function"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, UnsupportedParameter, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f f"}}]}, InvalidValue, "tools[0].function.name"),
    ({"tools": [F], "tool_choice": NAMED}, InvalidValue, "tool_choice.function.name"),
    ({"tool_choice": NAMED}, InvalidValue, "tool_choice.function.name"),
    (
        {"tools": [F], "response_format": {"type": "json_object"}},
        InvalidValue,
        "response_format",
    ),
    ({"messages": [HELLO, gave()]}, InvalidValue, "messages[1].tool_call_id"),
    ({"messages": [HELLO, called(call()), gave("c2")]}, InvalidValue, "messages[2].tool_call_id"),
    ({"messages": [HELLO, called(call())]}, InvalidValue, "messages[1].tool_calls"),
    ({"messages": [HELLO, called(call()), HELLO]}, InvalidValue, "messages[2].role"),
    ({"messages": [HELLO, called(call()), gave(), gave()]}, InvalidValue, "messages[3].tool_call_id"),
    ({"messages": [HELLO, called(call(), call())]}, InvalidValue, "messages[1].tool_calls"),
    ({"messages": [{**HELLO, "tool_calls": []}]}, UnsupportedParameter, "messages[0].tool_calls"),
    ({"messages": [{**HELLO, "tool_call_id": "c"}]}, UnsupportedParameter, "messages[0].tool_call_id"),
    ({"messages": [{**HELLO, "name": "ada"}]}, UnsupportedParameter, "messages[0].name"),
    ({"messages": [HELLO, called(call()), {**gave(), "name": "g"}]}, InvalidValue, "messages[2].name"),
    ({"messages": [{"role": "assistant", "tool_calls": []}]}, MissingParameter, "messages[0].content"),
    (
        {"messages": [HELLO, called(call(arguments="{x"))]},
        InvalidValue,
        "messages[1].tool_calls[0].function.arguments",
    ),
    (
        {"messages": [HELLO, called(call(arguments="[1]"))]},
        InvalidValue,
        "messages[1].tool_calls[0].function.arguments",
    ),
]


@pytest.mark.parametrize(("fields", "kind", "param"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_names_the_place(fields: dict[str, Any], kind: type[Exception], param: str):
    with pytest.raises(InvalidValue) as refusal:
        ask(**fields)
    assert type(refusal.value) is kind
    assert refusal.value.param == param


def test_a_tool_may_say_its_name_again():
    """LangChain for JavaScript does, and LibreChat with it."""
    round_ = [HELLO, called(call("f"), call("g", id="c2"))]
    plain = [*round_, gave(), gave("c2")]
    named = [*round_, {**gave(), "name": "f"}, {**gave("c2"), "name": "g"}]
    assert ask(messages=named) == ask(messages=plain)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        (nested(9), ""),
        ({"type": "object", "description": "x" * 17_000}, ""),
        ({"type": "string"}, ".type"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}},
            ".properties.a.pattern",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}, ".properties.a.$ref"),
        ({"type": "object", "patternProperties": {"(a+)+$": {}}}, ".patternProperties"),
        ([], ""),
    ],
    ids=["deep", "large", "no-object", "pattern", "remote", "pattern-properties", "list"],
)
def test_a_hostile_schema_is_refused_by_its_place(schema: Any, at: str):
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with pytest.raises(InvalidValue) as refusal:
        ask(tools=[G, tool])
    assert refusal.value.param == f"tools[1].function.parameters{at}"
    body = {"input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]}
    with pytest.raises(InvalidValue) as refusal:
        read_response(orjson.dumps(body), Context(id="resp_1", created=7))
    assert refusal.value.param == f"tools[0].parameters{at}"


def test_many_large_schemas_together_are_too_much():
    tools = [{"type": "function", "function": {"name": f"f{at}", "parameters": LARGE}} for at in range(5)]
    assert len(ask(tools=tools[:4]).calling.functions) == 4
    with pytest.raises(InvalidValue, match="together"):
        ask(tools=tools)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "name", "function", "id", "parameters", "$ref"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    tools=st.lists(
        ANYTHING | st.fixed_dictionaries({"type": st.just("function"), "function": ANYTHING}), max_size=3
    )
)
def test_whatever_is_sent_as_tools_is_read_or_refused(tools: list[Any]):
    body = {"model": "m", "messages": [HELLO], "tools": tools}
    param = "tools"
    try:
        read_chat(orjson.dumps(body), Context(id="chatcmpl-1", created=7))
    except InvalidValue as refusal:
        param = refusal.param or "nowhere"
    assert param.startswith("tools")
