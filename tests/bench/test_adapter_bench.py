"""Two answers of one adapter are one answer, but for ties."""

import pytest

from bench.desk import Said, same
from bench.hf_answers import Said as Wanted
from bench.served import compared, table


def said(*tokens, best=None):
    return Said(tokens, tuple(best or {token: -0.1, "other": -3.0} for token in tokens))


def test_answers_part_only_where_two_tokens_are_nearly_as_probable():
    assert same(said("a", "b"), said("a", "b"))
    assert not same(said("a", "b"), said("a", "c"))
    near = {"b": -0.70, "c": -0.71}
    assert same(said("a", "b", best=near), said("a", "c", best=near))
    far = {"b": -0.3, "c": -1.5}
    assert not same(said("a", "b", best=far), said("a", "c", best=far))


def wanted(*tokens, shift=0.0):
    return Wanted(tokens, tuple(-0.5 + shift for _ in tokens), tuple((-0.5 + shift, -1.0) for _ in tokens))


def test_a_row_tells_equal_answers_and_the_largest_difference_up_to_where_they_part():
    served = [(0, wanted("a", "b", shift=1e-4)), (1, wanted("a", "x"))]
    row = compared(
        "lora", 0.5, served, [wanted("a", "b"), wanted("a", "c")], [wanted("z", "b"), wanted("a", "c")], 2e-3
    )
    assert (row.answers, row.equal, row.changed) == (2, 1, 1)
    assert row.largest == pytest.approx(1e-4)
    assert not row.good
    assert "| lora | 0.50 | 1 of 2 | 0 | 1.0e-04 | 2.0e-03 | 1 |" in table([row])
