"""Calls are the same however the answer was cut on its way."""

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prompts.records import Call, Message
from server.call_reading import ListReader, NamedReader
from server.calling import Calling, Function, arguments_of
from server.hermes import HermesReader, worded
from server.seams import CallReader

NAMES = st.sampled_from(["weather", "clock", 'a "quoted" name', "é日"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), max_size=4)
WORDS = st.text(alphabet='ab <>{}[]"\\_/\ntolcg', max_size=12)


def cut(text: str, places: Iterable[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {len(text)})
    return [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def heard(reader: CallReader, pieces: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """The words and the calls that the parts add up to, as a client adds them."""
    *before, last = [*pieces] or [""]
    found = [reader.read(piece, (), ends=False) for piece in before] + [reader.read(last, (), ends=True)]
    calls: list[tuple[str, str]] = []
    for part in (part for one in found for part in one.calls):
        if part.name is not None:
            assert part.id
            assert part.at == len(calls)
            calls.append((part.name, part.arguments))
        else:
            name, arguments = calls[part.at]
            calls[part.at] = (name, arguments + part.arguments)
    return "".join(one.text for one in found), calls


def as_json(arguments: dict[str, Any], indent: int | None, ascii_only: bool) -> str:
    return json.dumps(arguments, indent=indent, ensure_ascii=ascii_only)


@given(
    calls=CALLS,
    places=st.lists(st.integers(0, 10_000)),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    arguments_first=st.booleans(),
)
def test_a_forced_list(calls, places, indent, ascii_only, arguments_first):
    written = []
    for name, arguments in calls:
        said = as_json(arguments, indent, ascii_only)
        members = [f'"name" : {json.dumps(name)}', f'"parameters":{said}']
        written.append("{" + ", ".join(members[::-1] if arguments_first else members) + "}")
    text = f" [{' , '.join(written)}]\n"
    expected = [(name, as_json(arguments, indent, ascii_only)) for name, arguments in calls]
    assert heard(ListReader(), cut(text, places)) == ("", expected)


@given(
    before=WORDS,
    calls=CALLS,
    places=st.lists(st.integers(0, 10_000)),
    closed=st.booleans(),
)
def test_calls_in_the_words_of_hermes(before, calls, places, closed):
    before = before.replace("<tool_call>", "")
    written = [
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
        for name, arguments in calls
    ]
    text = before + "\n".join(written)
    if calls and not closed:
        text = text.removesuffix("</tool_call>")
    words, found = heard(HermesReader(), cut(text, places))
    assert words.rstrip("\n") == before.rstrip("\n")
    assert found == [(name, json.dumps(arguments)) for name, arguments in calls]


@given(text=WORDS | st.text(max_size=30), places=st.lists(st.integers(0, 100)))
def test_any_text_is_read_alike_however_it_is_cut(text, places):
    text = (
        text.replace("a", "<tool_call>").replace("b", "</tool_call>").replace("o", '{"name":"f","arguments":')
    )
    assert heard(HermesReader(), cut(text, places)) == heard(HermesReader(), [text])
    assert heard(ListReader(), cut(text, places)) == heard(ListReader(), [text])


@given(arguments=ARGUMENTS, places=st.lists(st.integers(0, 1_000)))
def test_a_call_by_name_is_the_whole_answer(arguments, places):
    text = json.dumps(arguments)
    assert heard(NamedReader("clock"), cut(text, places)) == ("", [("clock", text)])
    assert heard(NamedReader("clock"), []) == ("", [("clock", "")])


def test_what_is_no_call_is_shown():
    assert heard(HermesReader(), ["a <tool_call>nonsense</tool_call> b"]) == (
        "a <tool_call>nonsense</tool_call> b",
        [],
    )
    assert heard(HermesReader(), ["a <tool_c"]) == ("a <tool_c", [])
    assert heard(ListReader(), ["I would rather not."]) == ("I would rather not.", [])


def test_a_forced_answer_must_be_a_list_of_the_functions_that_there_are():
    tree = {
        "type": "object",
        "$defs": {"node": {"$ref": "#"}},
        "properties": {"next": {"$ref": "#/$defs/node"}},
    }
    functions = (Function(name="f", parameters=tree), Function(name="g"))
    schema = Calling(functions=functions, choice="required", parallel=False).schema
    assert schema["maxItems"] == 1
    assert [one["properties"]["name"]["const"] for one in schema["items"]["anyOf"]] == ["f", "g"]
    moved = schema["$defs"]["f0"]
    assert moved["properties"]["next"]["$ref"] == "#/$defs/f0/$defs/node"
    assert moved["$defs"]["node"]["$ref"] == "#/$defs/f0"
    assert Calling(functions=functions, choice="named", name="f").schema == tree
    assert Calling(functions=functions).schema is None


def test_arguments_are_objects_or_nothing():
    assert arguments_of("") == "{}"
    assert arguments_of(' {"a":1}') == '{"a": 1}'
    assert [arguments_of(text) for text in ("[1]", "{", "7", "null", "[" * 100_000)] == [None] * 5


def test_where_the_chat_template_knows_no_functions_they_are_put_in_words():
    calls = (Call("c1", "f", '{"a": 1}'), Call("c2", "g", "{}"))
    turns = worded(
        [
            Message("system", "Be brief."),
            Message("user", "Go."),
            Message("assistant", "Well.", calls),
            Message("tool", "one", answers="c1"),
            Message("tool", "two", answers="c2"),
        ],
        [Function(name="f"), Function(name="g")],
    )
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0].text.startswith("Be brief.")
    assert '"name": "g"' in turns[0].text
    assert turns[2].text.count("<tool_call>") == 2
    assert turns[3].text.index("one") < turns[3].text.index("two")
    assert heard(HermesReader(), [turns[2].text])[1] == [("f", '{"a": 1}'), ("g", "{}")]
