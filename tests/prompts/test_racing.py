"""A race drops the worse early, keeps the best, and pays only for what it asks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from prompts.racing import log_e, losers, race


@given(st.integers(0, 40), st.integers(0, 40))
def test_e_is_the_mixture_over_better_rates(b, c):
    mixture = integrate.quad(lambda q: 2 * (2 * q) ** b * (2 * (1 - q)) ** c, 0.5, 1)[0]
    assert math.exp(log_e(b, c)) == pytest.approx(mixture, rel=1e-6)


def table(rates, items=400, seed=1):
    return (np.random.default_rng(seed).random((items, len(rates))) < rates).astype(float)


def run(right, **options):
    asked = []

    def ask(who, which):
        asked.append((tuple(who), tuple(which)))
        return right[np.ix_(which, who)]

    return race(ask, right.shape[1], range(len(right)), **options), asked


def test_the_worse_are_dropped_and_the_best_survives():
    done, asked = run(table([0.3, 0.9, 0.4, 0.5]))
    assert done.live == (1,)
    assert done.leader == 1
    assert set(done.dropped) == {0, 2, 3}
    assert done.asked == sum(len(who) * len(which) for who, which in asked) < 4 * 400
    assert [which[0] for _, which in asked[:3]] == [0, 20, 30]


def test_equal_candidates_stay_to_the_end_or_to_the_budget():
    right = np.repeat(table([0.5]), 3, axis=1)
    assert run(right)[0].live == (0, 1, 2)
    done, _ = run(right, most_asked=100)
    assert done.asked == 90
    assert done.leader == 0


def test_what_was_not_asked_is_not_a_number():
    done, _ = run(table([0.2, 0.95]))
    seen = done.dropped[0]
    assert np.isnan(done.scores[seen:, 0]).all()
    assert not np.isnan(done.scores[:seen]).any()


@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_graded_scores_race_by_the_sequence_on_paired_differences(gap):
    random = np.random.default_rng(2)
    common = random.random((300, 1)) * 0.5
    scores = common + random.random((300, 2)) * 0.1 + np.array([0, gap])
    assert list(losers(scores[:40], 300, 0.05)) == [False, False]
    assert list(losers(scores, 300, 0.05)) == [gap > 0, False]


def test_the_best_of_equals_is_seldom_dropped_at_every_look():
    lost = sum(1 not in run(table([0.6, 0.65], seed=seed))[0].live for seed in range(300))
    assert lost / 300 <= 0.05
