"""Raw text and token ids in; text, and with echo the prompt's own log-probabilities, out."""

from typing import Any

import orjson
import pytest

from server.errors import InvalidValue, UnsupportedParameter
from server.records import Piece, Turn
from server.wire.completions import completion_body, read_completion
from server.wire.reading import Context
from tests.server.samples import chat_turn, client_hearing, plan_of, reply_to, token


def read(**fields: Any) -> Turn:
    return read_completion(
        orjson.dumps({"model": "m", "prompt": "Once", **fields}), Context(id="cmpl-1", created=7)
    )


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Once", ("Once",)),
        (["Once", "Twice"], ("Once", "Twice")),
        ([5, 6], ((5, 6),)),
        ([[5, 6], [7]], ((5, 6), (7,))),
    ],
)
def test_a_prompt_has_four_forms(prompt: Any, prompts: tuple[Any, ...]):
    assert read(prompt=prompt).prompts == prompts


def test_defaults_are_those_of_the_old_route():
    turn = read()
    assert (turn.max_tokens, turn.n, turn.echo, turn.logprobs, turn.messages) == (16, 1, False, None, ())
    assert (turn.wishes.template, turn.search.stores) == (None, ())


def test_what_evaluation_harnesses_send_is_accepted():
    turn = read(prompt=["ab"], echo=True, logprobs=1, max_tokens=0, temperature=0, seed=1234)
    assert (turn.echo, turn.logprobs, turn.max_tokens) == (True, 1, 0)
    assert read(n=2, best_of=2, logprobs=None).n == 2


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"prompt": ""}, InvalidValue, "prompt"),
        ({"prompt": []}, InvalidValue, "prompt"),
        ({"prompt": [[]]}, InvalidValue, "prompt[0]"),
        ({"prompt": [1, "a"]}, InvalidValue, "prompt[1]"),
        ({"prompt": [True]}, InvalidValue, "prompt[0]"),
        ({"prompt": [-1]}, InvalidValue, "prompt[0]"),
        ({"prompt": ["a"] * 17}, InvalidValue, "prompt"),
        ({"prompt": ["a"] * 3, "n": 6}, InvalidValue, "n"),
        ({"max_tokens": 0}, InvalidValue, "max_tokens"),
        ({"logprobs": 6}, InvalidValue, "logprobs"),
        ({"best_of": 2}, UnsupportedParameter, "best_of"),
        ({"suffix": "end"}, UnsupportedParameter, "suffix"),
        ({"fewshot": {"template": "t"}, "prompt": [5]}, InvalidValue, "prompt"),
        ({"fewshot": {"vector_store_ids": ["vs_1"]}, "echo": True}, UnsupportedParameter, "echo"),
    ],
)
def test_a_refusal_names_the_place(fields: dict[str, Any], kind: type[Exception], param: str):
    with pytest.raises(InvalidValue) as refusal:
        read(**fields)
    assert type(refusal.value) is kind
    assert refusal.value.param == param


def test_echo_puts_the_prompt_before_the_answer_and_offsets_find_every_token():
    prompt = (None, token("é"), token(" b", -1.5, " c"))
    turn = chat_turn(messages=(), prompts=("Aé b",), echo=True, logprobs=1)
    said = Piece(text="日本!", logprobs=(token("日本"), token("!")), finish="length", prompt_logprobs=prompt)
    body = completion_body(reply_to(plan_of(turn), [said]))
    answer = client_hearing(orjson.dumps(body)).completions.create(model="m", prompt="")
    choice = answer.choices[0]
    assert choice.text == "Aé b日本!"
    rows = choice.logprobs
    assert rows
    assert rows.tokens == ["A", "é", " b", "日本", "!"]
    assert rows.token_logprobs == [None, -0.5, -1.5, -0.5, -0.5]
    assert rows.top_logprobs
    assert rows.top_logprobs[2] == {" b": -1.5}
    assert rows.text_offset
    for word, offset in zip(rows.tokens, rows.text_offset, strict=True):
        assert choice.text[offset:].startswith(word)


def test_a_token_inside_a_character_points_at_it():
    halves = [token("\ufffd")] * 2
    pieces = [
        type(half)(half.token, part, -1.0) for half, part in zip(halves, [(0xC3,), (0xA9,)], strict=True)
    ]
    turn = chat_turn(messages=(), prompts=("a",), logprobs=0)
    said = Piece(text="é!", logprobs=(*pieces, token("!")), finish="stop")
    rows = completion_body(reply_to(plan_of(turn), [said]))["choices"][0]["logprobs"]
    assert rows["text_offset"] == [0, 0, 1]


def test_echoed_ids_read_as_the_plan_says():
    turn = chat_turn(messages=(), prompts=((5, 6),), echo=True, n=2)
    plan = plan_of(turn, echoed=("ab",))
    said = [Piece(index=index, text="c", finish="stop") for index in range(2)]
    assert [choice["text"] for choice in completion_body(reply_to(plan, said))["choices"]] == ["abc", "abc"]
