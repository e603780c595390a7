"""Any bytes into our own parsers: refused as they say, within a second; a fault that lies deep is found."""

import pytest

from tests.faults.fuzz import TARGETS, Target, fuzz
from tests.faults.hidden import hidden

RUNS = [pytest.param(150), pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("name", list(TARGETS))
def test_whatever_comes_a_parser_refuses_it_as_it_says_it_does(name, runs):
    found, steps, _ = fuzz(TARGETS[name], runs, seed=runs)
    assert found == []
    assert steps > 10, "nothing of ours was reached"


def test_what_lies_behind_four_conditions_is_found_because_each_leads_to_the_next():
    found, _, kept = fuzz(Target(hidden, (), [b"aaaa"]), 100_000, seed=1)
    assert [one.what.split(" ")[0] for one in found] == ["ZeroDivisionError"]
    assert kept >= 4
