"""The order in which items leave, and the search for the fewest that must."""

from hypothesis import given
from hypothesis import strategies as st

from prompts.budget import Removal, completion_room, fewest, leaving, prompt_room, removals
from prompts.records import Budget


def test_each_kind_has_its_order_of_leaving():
    orders = leaving(2, 3, demo_scores=[0.9, 0.1], demo_labels=[None, None], source_scores=[0.5, 0.5, 0.2])
    assert orders == {
        "static_demos": (1, 0),
        "history": (0, 1, 2),
        "dynamic_demos": (1, 0),
        "sources": (2, 1, 0),
    }


def test_kinds_give_way_one_after_the_other_down_to_their_least():
    orders = leaving(0, 2, [], [], [0.1, 0.2])
    budget = Budget(least={"sources": 1}, gives_way=("sources", "history"))
    assert removals(orders, budget) == (Removal("sources", 0), Removal("history", 0), Removal("history", 1))


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(0, 400), st.integers(0, 60))
def test_the_fewest_removals_are_found_from_any_guess(sizes, room, guess):
    calls = []

    def tokens(removed):
        calls.append(removed)
        return 10 + sum(sizes[removed:])

    fit = fewest(len(sizes), tokens, room, lambda whole: guess)
    enough = [removed for removed in range(len(sizes) + 1) if 10 + sum(sizes[removed:]) <= room]
    assert fit.steps == (enough[0] if enough else len(sizes))
    assert fit.tokens == 10 + sum(sizes[fit.steps :])
    assert len(calls) == len(set(calls)) <= 14


def test_the_completion_is_promised_no_more_than_it_asks_for():
    assert prompt_room(1000, requested=None, reserve=256) == 744
    assert prompt_room(1000, requested=16, reserve=256) == 984
    assert prompt_room(1000, requested=900, reserve=256, soft_prompt_tokens=20) == 724
    assert completion_room(1000, prompt_tokens=744, requested=900) == 256
    assert completion_room(1000, prompt_tokens=100, requested=None) == 900
