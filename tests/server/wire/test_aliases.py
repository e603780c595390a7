"""Request over alias, field by field; and what an alias locks."""

import re
from dataclasses import fields, replace
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.alias_settings import Alias as AliasSettings
from server.alias_settings import AliasSampling, Lock
from server.aliases import Alias
from server.errors import InvalidValue, UnsupportedParameter
from server.records import Sampling
from server.wire.aliases import LOCKS
from server.wire.chat import read_chat
from server.wire.completions import read_completion
from server.wire.reading import Context
from server.wire.responses import read_response

FULL = Alias(
    name="support",
    model="smol",
    template="grounded@1",
    variables={"tone": "calm"},
    vector_stores=("handbook",),
    top=3,
    score_threshold=0.25,
    demos=2,
    sampling=Sampling(temperature=0.5, top_p=0.5, top_k=5, min_p=0.5, repetition_penalty=1.5, seed=5),
    max_tokens=50,
    when_empty="error",
    refusal_text="No.",
    citations="links",
)
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "file_search", "vector_store_ids": ["other"]}
FUNCTION = {"type": "function", "function": {"name": "weather"}}
READERS = {
    "chat": lambda body, context: read_chat(orjson.dumps({"messages": HELLO, **body}), context),
    "completions": lambda body, context: read_completion(orjson.dumps({"prompt": "Hello", **body}), context),
    "responses": lambda body, context: read_response(orjson.dumps({"input": "Hello", **body}), context).turn,
}


def read(route, alias=FULL, **body):
    context = Context(id="chatcmpl-1", created=7, aliases={alias.name: alias})
    return READERS[route]({"model": alias.name, **body}, context)


@pytest.mark.parametrize("route", READERS)
def test_where_the_request_says_nothing_the_alias_speaks(route):
    turn = read(route)
    assert (turn.model, turn.base) == ("support", "smol")
    assert turn.search.stores == ("handbook",)
    assert (turn.search.top, turn.search.threshold) == (3, 0.25)
    wishes = turn.wishes
    assert (wishes.template, wishes.variables, wishes.demos) == ("grounded@1", {"tone": "calm"}, 2)
    assert (wishes.when_empty, wishes.refusal_text, wishes.citations) == ("error", "No.", "links")
    assert (turn.sampling, turn.max_tokens) == (FULL.sampling, 50)


@pytest.mark.parametrize("route", READERS)
def test_a_name_that_is_no_alias_stands_for_itself(route):
    turn = read(route, model="smol")
    assert (turn.model, turn.base, turn.search.stores, turn.wishes.template) == ("smol", None, (), None)


NAMES = [field.name for field in fields(Sampling)]
SAID = st.fixed_dictionaries({}, optional={name: st.sampled_from([0.25, 0.75]) for name in NAMES[:2]})


@given(request=SAID, alias=SAID, tokens=st.tuples(*[st.none() | st.integers(1, 9)] * 2))
def test_the_first_that_says_something_is_heard(request, alias, tokens):
    said, bound = tokens
    other = replace(FULL, sampling=Sampling(**alias), max_tokens=bound)
    turn = read("chat", other, **request, max_tokens=said)
    for name in NAMES:
        assert getattr(turn.sampling, name) == request.get(name, alias.get(name))
    assert turn.max_tokens == (bound if said is None else said)


def test_a_request_says_it_otherwise_and_is_heard():
    wishes = {
        "template": "plain@1",
        "variables": {"tone": "loud"},
        "vector_store_ids": ["mine"],
        "demos": 0,
        "when_empty": "answer",
        "refusal_text": "Sorry.",
        "citations": "none",
    }
    turn = read("chat", fewshot=wishes)
    assert turn.search.stores == ("mine",)
    heard = turn.wishes
    assert (heard.template, heard.variables, heard.demos) == ("plain@1", {"tone": "loud"}, 0)
    assert (heard.when_empty, heard.refusal_text, heard.citations) == ("answer", "Sorry.", "none")
    tool = {**TOOL, "max_num_results": 9, "ranking_options": {"score_threshold": 0}}
    searched = read("chat", tools=[tool]).search
    assert (searched.stores, searched.top, searched.threshold) == (("other",), 9, 0)


def test_another_template_does_not_inherit_values_for_slots_it_may_not_have():
    assert read("chat", fewshot={"template": "plain@1"}).wishes.variables == {}


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_a_caller_may_do_without_the_alias_s_stores(route):
    assert read(route, tool_choice="none").search.stores == ()
    assert read(route, tool_choice="required").search.stores == ("handbook",)


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1]]])
def test_an_alias_with_a_template_takes_one_question(prompt):
    with pytest.raises(InvalidValue, match="one string"):
        read("completions", prompt=prompt)


def test_an_alias_that_binds_no_wording_leaves_completions_raw():
    turn = read("completions", Alias(name="hot", model="smol"), prompt=[1, 2], echo=True)
    assert (turn.raw, turn.max_tokens) == (True, 16)


def test_what_can_be_bound_and_locked_is_told_alike_everywhere():
    assert set(LOCKS) == set(get_args(Lock))
    assert set(LOCKS) == set(AliasSettings.model_fields) - {"model", "tenant", "lock"}
    assert set(AliasSampling.model_fields) == set(NAMES)
    assert {field.name for field in fields(Alias)} == set(AliasSettings.model_fields) | {"name"}
    assert set(FULL.bound) == set(LOCKS)


# lock → a body that says the field, by route, and the path that the refusal names
SAYING = [
    ("template", "chat", {"fewshot": {"template": "a"}}, "fewshot.template"),
    ("template", "responses", {"prompt": {"id": "a"}}, "prompt.id"),
    ("variables", "completions", {"fewshot": {"variables": {"a": "b"}}}, "fewshot.variables"),
    ("variables", "responses", {"prompt": {"id": "a", "variables": {"b": "c"}}}, "prompt.variables"),
    ("vector_stores", "completions", {"fewshot": {"vector_store_ids": ["a"]}}, "fewshot.vector_store_ids"),
    ("vector_stores", "chat", {"tools": [TOOL]}, "tools[0].vector_store_ids"),
    ("vector_stores", "chat", {"tools": [FUNCTION, TOOL]}, "tools[1].vector_store_ids"),
    ("vector_stores", "responses", {"tools": [TOOL]}, "tools[0].vector_store_ids"),
    ("vector_stores", "chat", {"tool_choice": "none"}, "tool_choice"),
    ("top", "chat", {"tools": [{**TOOL, "max_num_results": 2}]}, "tools[0].max_num_results"),
    (
        "score_threshold",
        "responses",
        {"tools": [{**TOOL, "ranking_options": {"score_threshold": 0}}]},
        "tools[0].ranking_options.score_threshold",
    ),
    ("demos", "chat", {"fewshot": {"demos": 0}}, "fewshot.demos"),
    *(("sampling", "chat", {name: 1}, name) for name in NAMES),
    ("max_tokens", "chat", {"max_tokens": 5}, "max_tokens"),
    ("max_tokens", "chat", {"max_completion_tokens": 5}, "max_completion_tokens"),
    ("max_tokens", "completions", {"max_tokens": 16}, "max_tokens"),
    ("max_tokens", "responses", {"max_output_tokens": 5}, "max_output_tokens"),
    ("when_empty", "chat", {"fewshot": {"when_empty": "answer"}}, "fewshot.when_empty"),
    ("refusal_text", "chat", {"fewshot": {"refusal_text": ""}}, "fewshot.refusal_text"),
    ("citations", "responses", {"fewshot": {"citations": "markers"}}, "fewshot.citations"),
]


@pytest.mark.parametrize(("lock", "route", "body", "path"), SAYING)
def test_a_locked_field_set_by_a_request_is_refused_by_its_name(lock, route, body, path):
    read(route, **body)  # unlocked, it is heard
    with pytest.raises(UnsupportedParameter, match="fixed by the alias 'support'") as refused:
        read(route, replace(FULL, lock=frozenset({lock})), **body)
    assert refused.value.param == path


def test_every_place_where_a_locked_field_could_be_said_is_tried():
    tried = {(lock, re.sub(r"\[\d\]", "[]", path)) for lock, _, _, path in SAYING}
    assert {(lock, path) for lock, paths in LOCKS.items() for path in paths} <= tried


@pytest.mark.parametrize("route", READERS)
def test_a_request_that_says_nothing_passes_all_locks(route):
    everything = replace(FULL, lock=frozenset(LOCKS))
    silent = {"temperature": None, "stream": True, "fewshot": {"demos": None, "variables": {}}}
    assert read(route, everything, **silent).wishes.demos == 2
    if route != "completions":
        assert read(route, everything, tools=[], tool_choice="auto").search.stores == ("handbook",)


def test_functions_are_no_search_that_a_lock_forbids():
    everything = replace(FULL, lock=frozenset(LOCKS))
    turn = read("chat", everything, tools=[FUNCTION])
    assert turn.search.stores == ("handbook",)
    assert [function.name for function in turn.calling.functions] == ["weather"]
