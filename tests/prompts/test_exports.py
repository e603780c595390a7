"""What leaves the journal as training data, and what never does."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.exports import Guards, demos, held_out_inputs, pairs, sft
from prompts.listing import parse_lines


def turn(key="t1", unit="ann", question="How hot is tea?", output="Eighty degrees.", said=(), **fields):
    return {
        "turn": key,
        "unit": unit,
        "at": 1.0,
        "experiment": None,
        "arm": None,
        "template": "plain@1",
        "template_sha256": "c",
        "adapter_sha256": None,
        "chunks": [],
        "metadata": {},
        "outputs": [output],
        "asked": [{"role": "user", "text": question}],
        "messages": [{"role": "system", "text": "Be brief."}, {"role": "user", "text": question}],
        "feedback": [{"kind": kind, "value": value, "at": 2.0} for kind, value in said],
        **fields,
    }


LIKED = (("thumb", True),)
DISLIKED = (("thumb", False),)


def test_a_correction_is_learnt_from_before_the_models_own_words():
    guards = Guards()
    made = list(
        sft(
            [
                turn("t1", said=[*LIKED, ("correction", "At 80 °C.")]),
                turn("t2", "bo", said=LIKED, output="Warm."),
                turn("t3", "cy", said=DISLIKED),
                turn("t4", "dee"),
                turn("t5", "eve", said=(("rating", 0.4),)),
            ],
            guards,
        )
    )
    assert [row["completion"][0]["content"] for row in made] == ["At 80 °C.", "Warm."]
    assert [row["written_by"] for row in made] == ["person", "model"]
    assert made[0]["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How hot is tea?"},
    ]
    assert made[0]["provenance"]["turn"] == "t1"
    assert guards.dropped == Counter({"neither corrected nor liked": 3})


def test_pairs_come_from_corrections_and_from_opposite_thumbs_on_one_question():
    rows = [
        turn("t1", said=[("correction", "At 80 °C.")]),
        turn("t2", "bo", output="Good.", said=LIKED),
        turn("t3", "cy", question="how HOT is tea", output="Bad.", said=DISLIKED),
        turn("t4", "dee", output="Other sources.", said=DISLIKED, chunks=["ch_1"]),
        turn("t5", "eve", question="Another question", output="Bad.", said=DISLIKED),
    ]
    made = list(pairs(rows, Guards()))
    told = [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["from"]) for row in made]
    assert told == [("At 80 °C.", "Eighty degrees.", "correction"), ("Good.", "Bad.", "feedback")]
    assert made[1]["provenance"]["rejected_turn"] == "t3"


def test_a_worked_example_needs_a_correction_or_two_units_that_like_it(tmp_path):
    review = []
    rows = [
        turn("t1", said=[("correction", "At 80 °C.")]),
        turn("t2", "bo", question="Who?", output="Her.", said=LIKED),
        turn("t3", "bo", question="Who?", output="Her.", said=LIKED),
        turn("t4", "cy", question="Where?", output="Here.", said=LIKED),
        turn("t5", "dee", question="where", output="Here.", said=LIKED),
    ]
    made = list(demos(rows, Guards(), review=review))
    assert [(line["input"], line["output"]) for line in made] == [
        ("How hot is tea?", "At 80 °C."),
        ("Where?", "Here."),
    ]
    assert [line["output"] for line in review] == ["Her."]
    assert len(parse_lines(map(json.dumps, made), "exported").demos) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"asked": None}, "no text kept"),
        ({"outputs": None}, "no text kept"),
        ({"metadata": {"training": "no"}}, "keeps it out"),
        ({"failed": True}, "no whole answer"),
        ({"cancelled": True}, "no whole answer"),
        ({"question": "HELD, out!"}, "kept for judging"),
    ],
)
def test_what_may_not_be_used_is_counted_and_left_out_of_every_view(fields, reason):
    rows = [turn(said=[*LIKED, ("correction", "Better.")], **fields)]
    for view in (sft, pairs, lambda rows, guards: demos(rows, guards, review=[])):
        guards = Guards(held_out=held_out_inputs([{"input": "held out"}]))
        assert list(view(rows, guards)) == []
        assert [key for key in guards.dropped if key.startswith(reason) or reason in key]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_no_unit_has_more_rows_than_it_may_and_no_row_comes_twice(asked, most):
    rows = [
        turn(f"t{n}", unit, question=f"Question {q}", output=f"Answer {q}", said=LIKED)
        for n, (unit, q) in enumerate(asked)
    ]
    made = list(sft(rows, Guards(most_per_unit=most)))
    assert all(count <= most for count in Counter(row["provenance"]["unit"] for row in made).values())
    assert len({json.dumps([row["prompt"], row["completion"]]) for row in made}) == len(made)


@given(st.lists(st.text(min_size=1), unique=True, max_size=50), st.text())
def test_a_unit_is_in_one_part_whatever_else_is_exported(units, salt):
    guards = Guards(split_salt=salt)
    assert [guards.split(unit) for unit in units] == [Guards(split_salt=salt).split(unit) for unit in units]


def test_parts_have_their_shares():
    parts = Counter(Guards().split(f"unit-{number}") for number in range(20_000))
    assert parts["train"] / 20_000 == pytest.approx(0.8, abs=0.02)
    assert parts["test"] / 20_000 == pytest.approx(0.1, abs=0.015)
