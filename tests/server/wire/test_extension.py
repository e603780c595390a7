"""What OpenAI's API has no word for: the search asked for, the unit, and where an answer came from."""

from typing import Any

import pytest

from indexer.filters import Comparison
from prompts.records import Message
from server.errors import InsufficientScope, InvalidFilter, InvalidValue
from server.loadables import TemplateUse
from server.records import Piece, Search, Wishes
from server.wire.chat import chat_body
from server.wire.reading import Context
from tests.server.samples import CITATION, SOURCE, ask, chat_turn, plan_of, reply_to

TOOL = {"type": "file_search", "vector_store_ids": ["vs_1", "vs_2"]}


def test_the_tool_says_where_and_how_to_search():
    tool = {
        **TOOL,
        "max_num_results": 7,
        "max_results_per_file": 2,
        "filters": {"type": "gte", "key": "year", "value": 2020},
        "ranking_options": {
            "ranker": "none",
            "score_threshold": 0.25,
            "hybrid_search": {"embedding_weight": 2, "text_weight": 0.5},
        },
    }
    assert ask(tools=[tool], tool_choice="required").search == Search(
        stores=("vs_1", "vs_2"),
        top=7,
        per_file=2,
        filter=Comparison("gte", "year", (2020.0,)),
        weights=(2.0, 0.5),
        rerank=False,
        threshold=0.25,
        required=True,
    )
    assert ask(tools=[{**TOOL, "search_mode": "keyword"}]).search.mode == "keyword"
    assert ask(tools=[TOOL], tool_choice="none").search == Search(off=True)
    assert ask(tools=[TOOL], tool_choice={"type": "file_search"}).search.required
    assert ask(fewshot={"vector_store_ids": ["vs_1"]}).search == Search(stores=("vs_1",))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{**TOOL, "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
        ({"tools": [{**TOOL, "max_num_results": 51}]}, "tools[0].max_num_results"),
        ({"tools": [{**TOOL, "max_results_per_file": 0}]}, "tools[0].max_results_per_file"),
        (
            {
                "tools": [
                    {**TOOL, "ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}}
                ]
            },
            "tools[0].ranking_options.hybrid_search.embedding_weight",
        ),
        (
            {"tools": [{**TOOL, "ranking_options": {"hybrid_search": {"embedding_weight": 1}}}]},
            "tools[0].ranking_options.hybrid_search.text_weight",
        ),
        (
            {
                "tools": [
                    {
                        **TOOL,
                        "search_mode": "vector",
                        "ranking_options": {"hybrid_search": {"embedding_weight": 1, "text_weight": 1}},
                    }
                ]
            },
            "tools[0].ranking_options.hybrid_search",
        ),
        ({"tools": [TOOL], "fewshot": {"vector_store_ids": ["a"]}}, "fewshot.vector_store_ids"),
    ],
)
def test_a_search_that_cannot_be_done_as_asked_is_refused(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidValue) as refusal:
        ask(**fields)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("filters", "param", "said"),
    [
        (7, "tools[0].filters", "must be an object"),
        ({"type": "eq", "key": "a", "value": None}, "tools[0].filters.value", "is missing"),
        (
            {"type": "and", "filters": [{"type": "gt", "key": "a", "value": True}, {"type": "like"}]},
            "tools[0].filters.filters[0].value",
            "tools[0].filters.filters[1].type must be one of eq",
        ),
    ],
)
def test_a_filter_that_cannot_be_applied_is_refused_with_all_its_problems(
    filters: Any, param: str, said: str
):
    with pytest.raises(InvalidFilter) as refusal:
        ask(tools=[{**TOOL, "filters": filters}])
    assert refusal.value.param == param
    assert said in refusal.value.message


def test_the_first_name_given_is_the_unit():
    names: list[tuple[str, dict[str, Any]]] = [
        ("metadata", {"metadata": {"unit_id": "metadata"}}),
        ("user", {"user": "user"}),
        ("safety_identifier", {"safety_identifier": "safety_identifier"}),
        ("unit", {"fewshot": {"unit": "unit"}}),
    ]
    context = Context(id="chatcmpl-1", created=7, unit_header="header")
    fields: dict[str, Any] = {}
    assert (ask(context=context).unit, ask(context=context).unit_kind) == ("header", "header")
    for name, more in names:
        fields |= more
        turn = ask(context=context, **fields)
        assert (turn.unit, turn.unit_kind) == (name, name)


def test_an_empty_user_is_nobody():
    assert ask(user="").unit_kind == "request"


def test_wishes_arrive():
    asked = {"template": "grounded@4", "variables": {"tone": "dry"}, "demos": 0, "when_empty": "error"}
    assert ask(fewshot=asked).wishes == Wishes(
        template="grounded@4", variables={"tone": "dry"}, demos=0, when_empty="error"
    )


def test_provenance_names_everything_the_answer_was_made_from():
    turn = chat_turn(ignored=("colour",), unit_kind="user")
    unused = SOURCE._replace(n=0, chunk_id="ch_10")
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
        ask(fewshot={"inspect": True})
    auditor = Context(id="chatcmpl-1", created=7, scopes=frozenset({"infer", "audit"}))
    assert ask(context=auditor, fewshot={"inspect": True}).wishes.inspect


def test_inspection_shows_the_prompt_and_the_sources_text():
    turn = chat_turn(wishes=Wishes(inspect=True))
    plan = plan_of(turn, sources=(SOURCE,), messages=(Message("user", "Hello"),))
    said = chat_body(reply_to(plan, [Piece(text="x", finish="stop")]))["fewshot"]
    assert said["messages"] == [{"role": "user", "content": "Hello"}]
    assert said["sources"][0]["text"] == SOURCE.text
