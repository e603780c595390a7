"""Calls of functions over the wire: the unmodified openai client, and an echo that plays what it is asked."""

import json
from typing import Any

import httpx
import openai
import pytest

WEATHER = {
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string"}, "days": {"type": "integer", "default": None}},
        "required": ["town"],
    },
}
CLOCK = {"name": "clock"}
TOOLS: Any = [{"type": "function", "function": function} for function in (WEATHER, CLOCK)]
FLAT: Any = [{"type": "function", **function} for function in (WEATHER, CLOCK)]
STORE = {"type": "file_search", "vector_store_ids": ["facts"]}
OSLO, ROME = '{"town": "Oslo «é» \\"x\\"", "days": 2}', '{"town": "Rome"}'
ONE = f'<tool_call>{{"name": "weather", "arguments": {OSLO}}}</tool_call>'
TWO = f'Looking.\n{ONE}\n<tool_call>{{"name": "weather", "arguments": {ROME}}}</tool_call>'
LIST = f'[{{"name": "weather", "parameters": {OSLO}}}, {{"name": "clock", "parameters": {{}}}}]'


def saying(text: str) -> Any:
    return [{"role": "user", "content": text}]


def told(message: Any) -> list[tuple[str, str]]:
    return [(call.function.name, call.function.arguments) for call in message.tool_calls or []]


ANSWERS = [
    pytest.param("auto", "Hello", "Hello", [], "stop", id="words"),
    pytest.param("auto", ONE, None, [("weather", OSLO)], "tool_calls", id="one"),
    pytest.param(
        "auto", TWO, "Looking.", [("weather", OSLO), ("weather", ROME)], "tool_calls", id="words-and-two"
    ),
    pytest.param("required", LIST, None, [("weather", OSLO), ("clock", "{}")], "tool_calls", id="required"),
    pytest.param(
        {"type": "function", "function": {"name": "weather"}},
        ROME,
        None,
        [("weather", ROME)],
        "stop",
        id="by-name",
    ),
    pytest.param("none", ONE, ONE, [], "stop", id="none"),
]


@pytest.mark.parametrize(("choice", "question", "content", "calls", "finish"), ANSWERS)
def test_chat_tells_calls_whole_and_streamed_alike(serve, choice, question, content, calls, finish):
    with serve() as running:
        client = running.client()
        asked: Any = {"model": "echo", "messages": saying(question), "tools": TOOLS, "tool_choice": choice}
        (whole,) = client.chat.completions.create(**asked).choices
        with client.chat.completions.stream(**asked) as stream:
            (streamed,) = stream.get_final_completion().choices
        chunks = list(client.chat.completions.create(**asked, stream=True))
    assert (whole.message.content, told(whole.message), whole.finish_reason) == (content, calls, finish)
    assert (streamed.message.content, told(streamed.message)) == (content, calls)
    assert streamed.finish_reason == finish
    ids = [call.id for call in whole.message.tool_calls or []]
    assert len(set(ids)) == len(ids) == len(calls)
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert [part.index for part in parts if part.id] == list(range(len(calls)))
    for at, (_, arguments) in enumerate(calls):
        assert "".join(part.function.arguments for part in parts if part.index == at) == arguments
        assert sum(part.index == at for part in parts) > 1 or len(arguments) < 3  # bit by bit


def test_one_call_at_a_time_where_the_caller_wants_no_more(serve):
    with serve() as running:
        done = running.client().chat.completions.create(
            model="echo", messages=saying(TWO), tools=TOOLS, parallel_tool_calls=False
        )
    assert told(done.choices[0].message) == [("weather", OSLO)]


def test_a_call_cut_short_ends_by_length(serve):
    with serve() as running:
        client = running.client()
        (chat,) = client.chat.completions.create(
            model="echo", messages=saying(ONE), tools=TOOLS, max_tokens=60
        ).choices
        response = client.responses.create(input=ONE, tools=FLAT, max_output_tokens=60)
        going_on = client.responses.create(
            previous_response_id=response.id,
            input=[
                {"type": "function_call_output", "call_id": response.output[0].call_id, "output": "cut off"}
            ],
        )
    assert chat.finish_reason == "length"
    assert OSLO.startswith(told(chat.message)[0][1])
    assert (response.status, response.output[0].status) == ("incomplete", "incomplete")
    assert "cut off" in going_on.output_text


def test_the_round_goes_on_with_what_the_tools_gave(serve):
    with serve() as running:
        client = running.client()
        first = client.chat.completions.create(model="echo", messages=saying(TWO), tools=TOOLS)
        message = first.choices[0].message
        given = [
            {"role": "tool", "tool_call_id": call.id, "content": f"{at} degrees"}
            for at, call in enumerate(message.tool_calls)
        ]
        second = client.chat.completions.create(
            model="echo",
            messages=[*saying(TWO), message, *given],
            tools=TOOLS,
            extra_body={"fewshot": {"inspect": True}},
        )
        prompt = running.journalled(second.id)["plans.prompt_ids"]
    words = second.choices[0].message.content
    assert "0 degrees" in words
    assert "1 degrees" in words
    turns = second.fewshot["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
    read = "".join(
        chr(int.from_bytes(prompt[at : at + 4], "little") % 0x110000) for at in range(0, len(prompt), 4)
    )
    assert '"name": "weather"' in read  # the functions and the calls are part of what the model read
    assert read.count("<tool_call>") >= 3


@pytest.mark.parametrize("question", [ONE, TWO, "Hello"])
def test_a_response_tells_calls_as_items(serve, question):
    with serve() as running:
        client = running.client()
        whole = client.responses.create(input=question, tools=FLAT)
        with client.responses.stream(model="echo", input=question, tools=FLAT) as stream:
            events = list(stream)
            streamed = stream.get_final_response()
        again = client.responses.retrieve(whole.id)
    words = [] if question == ONE else ["message"]
    calls = ["function_call"] * question.count("<tool_call>")
    assert [item.type for item in whole.output] == words + calls
    assert [item.to_dict() for item in again.output] == [item.to_dict() for item in whole.output]
    assert [item.type for item in streamed.output] == words + calls
    arguments = [item.arguments for item in whole.output if item.type == "function_call"]
    assert arguments == [OSLO, ROME][: len(calls)]
    assert [item.arguments for item in streamed.output if item.type == "function_call"] == arguments
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == arguments
    for event in done:
        deltas = [
            other.delta
            for other in events
            if other.type == "response.function_call_arguments.delta"
            and other.output_index == event.output_index
        ]
        assert "".join(deltas) == event.arguments
    assert whole.tools[0].name == "weather"


def test_a_chain_of_responses_goes_on_after_a_call(serve):
    with serve() as running:
        client = running.client()
        first = client.responses.create(input=TWO, tools=FLAT)
        given = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "fine"}
            for item in first.output
            if item.type == "function_call"
        ]
        second = client.responses.create(input=given, tools=FLAT, previous_response_id=first.id)
        by_hand = client.responses.create(
            input=[{"role": "user", "content": TWO}, *first.output, *given], tools=FLAT
        )
        with pytest.raises(openai.BadRequestError) as half:
            client.responses.create(input=given[:1], tools=FLAT, previous_response_id=first.id)
        listed = client.responses.input_items.list(second.id)
    assert second.output_text == by_hand.output_text
    assert second.fewshot["prompt_sha256"] == by_hand.fewshot["prompt_sha256"]
    assert half.value.param == "input"
    assert given[1]["call_id"] in half.value.message
    assert [item.type for item in listed.data] == ["function_call_output"] * 2


def test_a_search_and_functions_stand_side_by_side(serve):
    question = f"How long do cats sleep? {ONE}"
    with serve() as running:
        client = running.client()
        done = client.responses.create(input=question, tools=[*FLAT, STORE], max_output_tokens=2_000)
        call = next(item for item in done.output if item.type == "function_call")
        after = client.responses.create(
            previous_response_id=done.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "13 [1]"}],
            tools=[*FLAT, STORE],
            extra_body={"fewshot": {"inspect": True}},
        )
        nothing = {"type": "eq", "key": "degrees", "value": -1}
        empty = client.chat.completions.create(
            model="echo",
            messages=saying(ONE),
            max_tokens=2_000,
            tools=[*TOOLS, {**STORE, "filters": nothing}],
        )
    assert next(item.type for item in done.output) == "file_search_call"
    assert done.fewshot["grounding"] == "grounded"
    assert [turn["role"] for turn in after.fewshot["messages"]][-3:] == ["user", "assistant", "tool"]
    assert "Cats" in after.fewshot["messages"][-3]["content"]  # the sources stand with the question
    assert [note.type for note in after.output[-1].content[0].annotations] == ["file_citation"]
    # A model that has functions may still answer when nothing is found.
    assert empty.fewshot["grounding"] == "ungrounded"
    assert told(empty.choices[0].message) == [("weather", OSLO)]


def test_without_a_parser_only_forced_calls_are_possible(serve):
    with serve(tool_parser=None) as running:
        client = running.client()
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model="echo", messages=saying("Hello"), tools=TOOLS)
        forced = client.chat.completions.create(
            model="echo", messages=saying(LIST), tools=TOOLS, tool_choice="required"
        )
    assert refusal.value.param == "tool_choice"
    assert "engine.tool_parser" in refusal.value.message
    assert len(forced.choices[0].message.tool_calls) == 2


def test_every_choice_of_several_has_its_own_calls(serve):
    with serve() as running:
        client = running.client()
        whole = client.chat.completions.create(model="echo", messages=saying(TWO), tools=TOOLS, n=3)
        with client.chat.completions.stream(model="echo", messages=saying(TWO), tools=TOOLS, n=3) as stream:
            streamed = stream.get_final_completion()
    for done in (whole, streamed):
        assert [told(choice.message) for choice in done.choices] == [
            [("weather", OSLO), ("weather", ROME)]
        ] * 3
    ids = [call.id for choice in whole.choices for call in choice.message.tool_calls]
    assert len(set(ids)) == 6


def test_the_journal_keeps_the_calls(serve):
    with serve() as running:
        done = running.client().chat.completions.create(model="echo", messages=saying(ONE), tools=TOOLS)
        row = running.journalled(done.id)
    (calls,) = json.loads(row["replies.calls"])
    assert calls == [{"id": done.choices[0].message.tool_calls[0].id, "name": "weather", "arguments": OSLO}]


def test_a_deep_body_of_functions_is_refused_not_survived(serve):
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(20):
        schema = {"type": "object", "properties": {"x": schema}}
    with serve() as running:
        answer = httpx.post(
            f"{running.url}/v1/chat/completions",
            json={
                "model": "echo",
                "messages": saying("x"),
                "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
            },
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("tools[0].function.parameters")
