"""Answers held against their references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.matching import exact_match, normalised, token_f1


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The Beatles.", ["beatles"], 1.0, 1.0),
        ("the Beatles [1]", ["The Rolling Stones", "Beatles"], 1.0, 1.0),
        ("It was written by Bobby Scott", ["Bobby Scott"], 0.0, 0.5),
        ("no idea", ["Bobby Scott"], 0.0, 0.0),
        ("", ["x"], 0.0, 0.0),
        ("to be to be", ["to be"], 0.0, 2 / 3),
    ],
)
def test_answers_are_scored_as_squad_does(answer, references, exact, f1):
    assert exact_match(answer, references) == exact
    assert token_f1(answer, references) == pytest.approx(f1)


@given(st.text(max_size=40), st.text(max_size=40))
def test_f1_is_symmetric_and_one_for_what_says_the_same(one, other):
    assert token_f1(one, [other]) == pytest.approx(token_f1(other, [one]))
    assert token_f1(one, [one.upper()]) == 1.0 or normalised(one) != normalised(one.upper())
    assert 0 <= token_f1(one, [other]) <= 1
    assert exact_match(one, [other]) <= token_f1(one, [other])
