"""The advice: by simulation wrong as seldom as it promises, and cheap where that costs nothing."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.analysis.paired import Interval
from training.comparison import against, interval, items_needed, resample_scores
from training.recommendation import Wanted, recommend
from training.records import Cost, Row, Run


def run(rung, right, *, seed=1, valid=None, serve=1.0, train=1.0, trainable=10, tokens=0.0):
    return Run(
        rung=rung,
        seed=seed,
        valid=float(np.mean(right)) if valid is None else valid,
        test=tuple(bool(one) for one in right),
        f1=0.0,
        cost=Cost(
            serve_seconds=serve, train_seconds=train, trainable=trainable, total=100, added_tokens=tokens
        ),
    )


def rows(**given):
    return [Row(rung=name, runs=tuple(runs)) for name, runs in given.items()]


def simulated(draw, p_cheap, p_dear, items, seeds=3):
    """Two rungs that agree on most items, as rungs do; the dear one costs ten times as much to serve."""
    hard = draw.random(items)
    made = {}
    for name, p, serve in (("cheap", p_cheap, 0.001), ("dear", p_dear, 0.01)):
        noise = [np.clip(hard + draw.normal(0, 0.05, items), 0, 1) < p for _ in range(seeds)]
        validation = p + draw.normal(0, 0.003)
        made[name] = [run(name, one, seed=n, valid=validation, serve=serve) for n, one in enumerate(noise)]
    return rows(**made)


def test_of_two_equal_rungs_the_dearer_is_seldom_recommended():
    draw = np.random.default_rng(8)
    found = [recommend(simulated(draw, 0.9, 0.9, 4_000)) for _ in range(60)]
    wrong = [one for one in found if one.rung == "dear" and one.outcome != "undecided"]
    assert len(wrong) <= 6  # 5 % of 60, with room for chance
    assert any(one.rung == "cheap" and one.outcome == "several" for one in found)


def test_a_truly_better_rung_is_recommended():
    draw = np.random.default_rng(9)
    found = [recommend(simulated(draw, 0.90, 0.915, 12_000)) for _ in range(40)]
    assert sum(one.rung == "dear" for one in found) >= 38


def test_equal_rungs_are_several_and_the_cheapest_is_named():
    right = np.arange(400) % 10 > 0
    advice = recommend(rows(cheap=[run("cheap", right, serve=0.1)], dear=[run("dear", right, serve=0.9)]))
    assert (advice.outcome, advice.rung, advice.others) == ("several", "cheap", ("dear",))


def test_too_few_items_to_tell_says_how_many_would():
    draw = np.random.default_rng(4)
    better, worse = draw.random(60) < 0.9, draw.random(60) < 0.85
    advice = recommend(
        rows(
            cheap=[run("cheap", worse, valid=0.8, serve=0.1)],
            dear=[run("dear", better, valid=0.9, serve=0.9)],
        )
    )
    assert advice.outcome == "undecided"
    assert advice.rung == "dear"
    assert "60 test items do not say" in advice.why


def test_what_would_tell_is_more_than_what_did_not():
    """Undecided means that the interval holds the limit: never fewer items than there were would do."""
    draw = np.random.default_rng(5)
    for gap in (0.0, 0.004, 0.0068, 0.01):
        hard = draw.random(12_000)
        advice = recommend(
            rows(
                cheap=[run("cheap", hard < 0.9 - gap, valid=0.8, serve=0.1)],
                dear=[run("dear", (hard < 0.9) ^ (draw.random(12_000) < 0.02), valid=0.9, serve=0.9)],
            )
        )
        if advice.outcome == "undecided":
            found = re.search(r"about ([\d,]+) would|a larger --delta may", advice.why)
            assert found, advice.why
            assert found[1] is None or int(found[1].replace(",", "")) >= 12_000


def test_items_that_are_needed_grow_as_the_limit_comes_near():
    assert items_needed(Interval(0.0, -0.01, 0.01), -0.005, 1_000) == 4_000
    assert items_needed(Interval(-0.004, -0.014, 0.006), -0.005, 1_000) == pytest.approx(100_000)
    assert items_needed(Interval(-0.005, -0.01, 0.0), -0.005, 1_000) == float("inf")


@pytest.mark.parametrize(
    ("wanted", "rung"),
    [
        (Wanted(parameters=50), "small"),
        (Wanted(no_added_tokens=True), "big"),
        (Wanted(train_minutes=0.5), "small"),
        (Wanted(), "small"),
    ],
)
def test_a_limit_takes_a_rung_out(wanted, rung):
    right = np.ones(100)
    found = rows(
        small=[run("small", right, trainable=5, tokens=20, serve=0.1)],
        big=[run("big", right, trainable=500, train=600, serve=0.9)],
    )
    assert recommend(found, wanted).rung == rung


def test_when_every_good_rung_breaks_a_limit_the_reason_is_given():
    advice = recommend(rows(only=[run("only", np.ones(50), trainable=500)]), Wanted(parameters=50))
    assert advice.rung is None
    assert "learns 500 parameters (at most 50 wanted)" in advice.why


def test_without_a_run_there_is_no_advice():
    assert recommend([Row(rung="lora", failed="no memory")]) is None


@given(st.integers(0, 10_000))
def test_an_interval_covers_what_was_seen_and_a_rung_does_not_differ_from_its_copy(seed):
    draw = np.random.default_rng(seed)
    scores = (draw.random((2, 50)) < 0.8).astype(float)
    found = resample_scores({"a": scores, "b": scores.copy()}, draws=200)
    seen = interval(found, "a")
    assert seen.low <= seen.mean <= seen.high
    assert against(found, "a")["b"].mean == 0


def test_simultaneous_bounds_are_wider_than_single_ones():
    draw = np.random.default_rng(1)
    scores = {name: (draw.random((3, 300)) < 0.8).astype(float) for name in "abcdefgh"}
    together = against(resample_scores(scores), "a")["b"]
    alone = against(resample_scores({name: scores[name] for name in "ab"}), "a")["b"]
    assert together.high - together.low > alone.high - alone.low
