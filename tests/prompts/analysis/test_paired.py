"""Looks at the end: shares, paired differences, several claims."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from prompts.analysis.paired import holm, mcnemar, mean_interval, wilson

rights = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_has_wilsons_interval(counts):
    successes, items = counts
    reference = binomtest(successes, items).proportion_ci(method="wilson")
    share = wilson(successes, items)
    assert share == pytest.approx((successes / items, reference.low, reference.high), abs=1e-9)


@given(rights)
def test_mcnemar_is_the_binomial_test_of_the_discordant_items(pairs):
    first, second = zip(*pairs, strict=True)
    test = mcnemar(first, second)
    discordant = test.only_first + test.only_second
    expected = binomtest(test.only_first, discordant).pvalue if discordant else 1.0
    assert test.p == pytest.approx(expected)
    assert test.difference.mean == pytest.approx(np.mean(first) - np.mean(second))
    mirrored = mcnemar(second, first)
    assert mirrored.p == test.p
    assert mirrored.difference.low == pytest.approx(-test.difference.high)


def test_intervals_of_means_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(60):
        first = rng.beta(2, 3, size=80)
        second = np.clip(first - 0.05 + 0.1 * rng.normal(size=80), 0, 1)
        truth = 0.05
        found = mean_interval(first, second)
        held += found.low - 0.01 <= truth <= found.high + 0.01
    assert held >= 52


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_stricter_than_one_claim_and_laxer_than_bonferroni(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= min(1, len(p_values) * p) + 1e-12 for p, c in zip(p_values, corrected, strict=True))
    assert corrected[p_values.index(min(p_values))] == pytest.approx(min(1, len(p_values) * min(p_values)))
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    ranked = [corrected[at] for at in order]
    assert ranked == sorted(ranked)


def test_nothing_is_no_number():
    assert np.isnan(wilson(0, 0).mean)
    assert np.isnan(mean_interval([]).low)
    assert mcnemar([], []).p == 1.0
