"""Every field the openai client knows has a class, and every class is kept."""

import typing
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import (
    EasyInputMessageParam,
    FunctionToolParam,
    ResponseFileSearchToolCallParam,
    ResponseFunctionToolCallParam,
    ResponseOutputMessageParam,
    ResponsePromptParam,
    ResponseTextConfigParam,
    response_create_params,
)
from openai.types.responses.response_input_item_param import FunctionCallOutput
from openai.types.shared_params import FunctionDefinition, Reasoning

from server.errors import UnsupportedParameter
from server.wire.chat import ChatRequest, read_chat
from server.wire.chat_messages import ChatMessage
from server.wire.completions import CompletionRequest, read_completion
from server.wire.embeddings import EmbeddingRequest, read_embedding
from server.wire.fields import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, Class, class_of
from server.wire.reading import Context, Wire
from server.wire.responses import ResponsesRequest, read_response

CONTEXT = Context(id="x-1", created=7)
STORES = {"type": "file_search", "vector_store_ids": ["vs_1"]}
Read = Callable[[bytes], Any]


class Route(typing.NamedTuple):
    table: Mapping[str, Class]
    model: type[Wire]
    read: Read
    smallest: dict[str, Any]
    client: tuple[tuple[str, type], ...]  # path prefix, request type of the client


ROUTES = {
    "chat": Route(
        CHAT,
        ChatRequest,
        lambda body: read_chat(body, CONTEXT),
        {"model": "m", "messages": [{"role": "user", "content": "Hello"}]},
        (
            ("", chat_create_params.CompletionCreateParamsNonStreaming),
            ("", chat_create_params.CompletionCreateParamsStreaming),
            ("stream_options.", ChatCompletionStreamOptionsParam),
            ("prompt_cache_options.", chat_create_params.PromptCacheOptions),
            ("messages[].", ChatCompletionSystemMessageParam),
            ("messages[].", ChatCompletionDeveloperMessageParam),
            ("messages[].", ChatCompletionUserMessageParam),
            ("messages[].", ChatCompletionAssistantMessageParam),
            ("messages[].", ChatCompletionToolMessageParam),
            ("messages[].", ChatCompletionFunctionMessageParam),
            ("messages[].tool_calls[].", ChatCompletionMessageFunctionToolCallParam),
            ("tools[].", ChatCompletionFunctionToolParam),
            ("tools[].function.", FunctionDefinition),
        ),
    ),
    "completions": Route(
        COMPLETIONS,
        CompletionRequest,
        lambda body: read_completion(body, CONTEXT),
        {"model": "m", "prompt": "Once"},
        (
            ("", completion_create_params.CompletionCreateParamsNonStreaming),
            ("", completion_create_params.CompletionCreateParamsStreaming),
            ("stream_options.", ChatCompletionStreamOptionsParam),
        ),
    ),
    "responses": Route(
        RESPONSES,
        ResponsesRequest,
        lambda body: read_response(body, CONTEXT).turn,
        {"input": [{"role": "user", "content": "Hello"}]},
        (
            ("", response_create_params.ResponseCreateParamsNonStreaming),
            ("", response_create_params.ResponseCreateParamsStreaming),
            ("stream_options.", response_create_params.StreamOptions),
            ("prompt_cache_options.", response_create_params.PromptCacheOptions),
            ("prompt.", ResponsePromptParam),
            ("text.", ResponseTextConfigParam),
            ("reasoning.", Reasoning),
            ("input[].", EasyInputMessageParam),
            ("input[].", ResponseOutputMessageParam),
            ("input[].", ResponseFileSearchToolCallParam),
            ("input[].", ResponseFunctionToolCallParam),
            ("input[].", FunctionCallOutput),
            ("tools[].", FunctionToolParam),
        ),
    ),
    "embeddings": Route(
        EMBEDDINGS,
        EmbeddingRequest,
        lambda body: read_embedding(body, dimension=3),
        {"model": "m", "input": "a"},
        (("", embedding_create_params.EmbeddingCreateParams),),
    ),
}
each_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())


@each_route
def test_every_field_of_the_client_has_a_class(route: Route):
    unclassed = {
        prefix + name
        for prefix, request in route.client
        for name in typing.get_type_hints(request)
        if class_of(route.table, prefix + name) is None
    }
    assert not unclassed, "class these in server/wire/fields.py"


@each_route
def test_the_table_and_the_model_agree_on_what_is_accepted(route: Route):
    accepted = {name for name, kind in route.table.items() if kind != "R" and "." not in name}
    assert accepted == set(route.model.model_fields)


def test_messages_accept_what_the_table_says():
    accepted = {
        name.removeprefix("messages[].")
        for name, kind in CHAT.items()
        if name.startswith("messages[].") and kind != "R"
    }
    assert {name for name in accepted if "." not in name and "[" not in name} == set(ChatMessage.model_fields)


REFUSED = [
    pytest.param(route, field.replace("*", "other"), id=f"{name}-{field}")
    for name, route in ROUTES.items()
    for field, kind in route.table.items()
    if kind == "R"
]


@pytest.mark.parametrize(("route", "field"), REFUSED)
def test_every_refused_field_is_refused_by_name(route: Route, field: str):
    body = {**route.smallest, "tools": [STORES]} if field.startswith("tools") else dict(route.smallest)
    *way, last = field.split(".")
    place: Any = body
    for step in way:
        name = step.removesuffix("[]")
        place[name] = [dict(place[name][0])] if step.endswith("[]") else {}
        place = place[name][0] if step.endswith("[]") else place[name]
    place[last] = [{"x": 1}]
    with pytest.raises(UnsupportedParameter) as refusal:
        route.read(orjson.dumps(body))
    assert refusal.value.param == field.replace("[]", "[0]")


HARMLESS: dict[str, Any] = {
    "service_tier": "flex",
    "parallel_tool_calls": False,
    "max_tool_calls": 3,
    "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "stream_options": {"include_obfuscation": True},
    "store": False,
    "reasoning_effort": "none",
    "verbosity": "medium",
    "modalities": ["text"],
    "tool_choice": "auto",
    "user": "",
    "background": False,
    "reasoning": {"effort": "none"},
}


@each_route
def test_ignored_fields_change_nothing(route: Route):
    ignored = {name for name, kind in route.table.items() if kind == "I" and "." not in name}
    assert ignored <= HARMLESS.keys(), "give these a harmless value"
    sent = {name: value for name, value in HARMLESS.items() if name in route.model.model_fields}
    assert route.read(orjson.dumps({**route.smallest, **sent})) == route.read(orjson.dumps(route.smallest))


@each_route
@given(data=st.data())
def test_null_means_absent(route: Route, data: st.DataObject):
    optional = [
        name for name in route.table if name not in route.smallest and "." not in name and "*" not in name
    ]
    nulls = dict.fromkeys(data.draw(st.sets(st.sampled_from(optional))))
    assert route.read(orjson.dumps({**nulls, **route.smallest})) == route.read(orjson.dumps(route.smallest))


def test_unknown_names_are_reported_where_the_operator_wants_it():
    lenient = Context(id="x-1", created=7, unknown_fields="report")
    odd = {"role": "user", "content": "Hello", "colour": 1}
    turn = read_chat(orjson.dumps({"model": "m", "messages": [odd], "a": 1, "ü\r\n": {"deep": 2}}), lenient)
    assert set(turn.ignored) == {"messages[0].colour", "a", "???"}
    assert turn.messages[0].text == "Hello"
