"""The formulas against brute force, exact enumeration and scipy."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from prompts.analysis import bandit, best_arm, eprocess, sample_ratio, sequences, units
from prompts.analysis.simulations.counts import Counts, z_rejects

RATES = st.floats(0.01, 0.99)


def e_by_hand(blocks):
    """The e-process as its paper writes it, one block after another, with plain floats."""
    log, s, m = 0.0, [0, 0], [0, 0]
    for k, n in blocks:
        p = [(s[j] + 0.5) / (m[j] + 1) for j in (0, 1)]
        pooled = (n[0] * p[0] + n[1] * p[1]) / (n[0] + n[1])
        for j in (0, 1):
            log += k[j] * math.log(p[j]) + (n[j] - k[j]) * math.log(1 - p[j])
            s[j], m[j] = s[j] + k[j], m[j] + n[j]
        log -= sum(k) * math.log(pooled) + (sum(n) - sum(k)) * math.log(1 - pooled)
    return log


@st.composite
def blocks_of_counts(draw):
    sizes = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=6))
    return [((draw(st.integers(0, a)), draw(st.integers(0, b))), (a, b)) for a, b in sizes]


@given(blocks_of_counts())
def test_the_e_process_is_what_its_paper_writes(blocks):
    (k_a, k_b), (n_a, n_b) = (np.array([block[part] for block in blocks]).T for part in (0, 1))
    assert eprocess.log_e(k_a, n_a, k_b, n_b)[-1] == pytest.approx(e_by_hand(blocks), abs=1e-9)


@given(RATES, st.integers(1, 7), st.integers(1, 7), st.integers(0, 9), st.integers(0, 9))
def test_a_block_expects_at_most_one_whatever_the_common_rate(rate, n_a, n_b, s_a, s_b):
    """Exact enumeration of the second block, after any first one of nine units per arm."""
    expected = 0.0
    for k_a in range(n_a + 1):
        for k_b in range(n_b + 1):
            log = eprocess.log_e([s_a, k_a], [9, n_a], [s_b, k_b], [9, n_b])
            chance = stats.binom.pmf(k_a, n_a, rate) * stats.binom.pmf(k_b, n_b, rate)
            expected += chance * math.exp(log[1] - log[0])
    assert expected <= 1 + 1e-9


@given(st.floats(0.001, 0.4), st.integers(100, 50_000), st.floats(0.01, 2), st.integers(100, 100_000))
def test_the_two_sided_sequence_is_where_its_p_value_is_alpha(alpha, expected, se, n):
    width = float(sequences.half_width(se, n, alpha, expected))
    p = sequences.p_value(width, se, n, alpha, expected)
    assert p == pytest.approx(alpha, rel=1e-6)
    assert sequences.p_value(width * 1.01, se, n, alpha, expected) < alpha


def test_the_sequence_is_tightest_about_where_it_was_tuned_and_wider_than_one_look():
    n = np.arange(100, 40_001, 100)
    ratio = sequences.half_width(1 / np.sqrt(n), n, 0.05, 5000) * np.sqrt(n)
    assert 3000 < n[ratio.argmin()] < 8000
    assert ratio.min() > stats.norm.ppf(0.975)
    one = sequences.one_sided_width(1 / np.sqrt(n), n, 0.05, 5000) * np.sqrt(n)
    assert (stats.norm.ppf(0.95) < one).all()
    assert (one[n > 1000] < ratio[n > 1000]).all()


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40))
def test_exact_rate_bounds_are_where_the_mixture_reaches_one_over_alpha(successes, failures):
    n, alpha = successes + failures, 0.05
    low, high = sequences.rate_bounds(successes, n, alpha)
    mixture = stats.beta.pdf

    def e(rate):
        top = integrate.quad(
            lambda q: q**successes * (1 - q) ** failures * mixture(q, 0.5, 0.5), 0, 1, limit=200
        )[0]
        return top / (rate**successes * (1 - rate) ** failures)

    assert 0 <= low <= (successes / n if n else 0.5) <= high <= 1
    for bound in (low, high):
        if 1e-6 < bound < 1 - 1e-6:
            assert e(bound) == pytest.approx(1 / alpha, rel=1e-2)


def test_exact_rate_bounds_miss_seldom_at_all_looks_together():
    random, missed = np.random.default_rng(3), 0
    for _ in range(200):
        seen = random.binomial(20, 0.02, 30).cumsum()
        bounds = [sequences.rate_bounds(int(s), 20 * at, 0.05) for at, s in enumerate(seen, 1)]
        missed += any(not low <= 0.02 <= high for low, high in bounds)
    assert missed / 200 <= 0.05


def test_the_empirical_bernstein_sequence_is_its_papers_loop():
    x, alpha = np.random.default_rng(5).random(60), 0.05
    mean, variance, total, weight, spread = 0.5, 0.25, 0.0, 0.0, 0.0
    sum_x, sum_v = 0.5, 0.25
    centre, width = sequences.empirical_bernstein(x, alpha)
    for t, value in enumerate(x, 1):
        bet = min(0.5, math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t))))
        total, weight = total + bet * value, weight + bet
        spread += (value - mean) ** 2 * (-math.log(1 - bet) - bet)
        assert centre[t - 1] == pytest.approx(total / weight)
        assert width[t - 1] == pytest.approx((math.log(2 / alpha) + spread) / weight)
        sum_x += value
        mean = sum_x / (t + 1)
        sum_v += (value - mean) ** 2
        variance = sum_v / (t + 1)


def test_the_sample_ratio_e_value_is_the_product_of_its_predictions():
    """Bayes, unit by unit: the predictive chance of each arm over its share."""
    random, shares = np.random.default_rng(6), np.array([0.2, 0.3, 0.5])
    arms, seen, log = random.choice(3, 300, p=[0.3, 0.3, 0.4]), np.zeros(3), 0.0
    for arm in arms:
        log += math.log((100 * shares[arm] + seen[arm]) / (100 + seen.sum()) / shares[arm])
        seen[arm] += 1
    assert sample_ratio.log_e(seen, shares) == pytest.approx(log)


@given(st.lists(st.integers(1, 500), min_size=2, max_size=4))
def test_chi_square_is_scipys(counts):
    shares = np.full(len(counts), 1 / len(counts))
    expected = stats.chisquare(counts).pvalue
    assert sample_ratio.chi_square_p(counts, shares) == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 99), st.integers(1, 99))
def test_the_textbook_z_is_the_root_of_the_contingency_chi_square(a, b):
    table = [[a, 100 - a], [b, 100 - b]]
    p = stats.chi2_contingency(table, correction=False).pvalue
    assert z_rejects(Counts(np.array([[[a, b]]], float), np.array([100.0, 100.0])))[0, 0] == (p < 0.05)


def test_the_delta_method_is_the_jackknife_up_to_rounding():
    random = np.random.default_rng(7)
    t = random.geometric(0.2, 4000).astype(float)
    y = random.binomial(t.astype(int), 0.6).astype(float)
    found = units.ratio_of(y, t)
    left_out = (y.sum() - y) / (t.sum() - t)
    jackknife = (len(t) - 1) / len(t) * ((left_out - left_out.mean()) ** 2).sum()
    assert found.squared_error == pytest.approx(jackknife, rel=2e-3)


def test_a_mean_has_scipys_standard_error():
    x = np.random.default_rng(8).random(50)
    assert units.mean_of(x).squared_error == pytest.approx(stats.sem(x) ** 2)


def test_the_covariates_slope_is_the_regressions_with_arm_intercepts():
    random = np.random.default_rng(9)
    arm, x = random.integers(0, 2, 300), random.normal(size=300)
    y = 2 * x + arm + random.normal(size=300)
    design = np.column_stack([x, arm == 0, arm == 1]).astype(float)
    theta = np.linalg.lstsq(design, y, rcond=None)[0][0]
    assert units.adjusted(y, x, arm) == pytest.approx(y - theta * (x - x.mean()))


def test_missing_covariates_are_filled_and_change_nothing_when_all_are_missing():
    random = np.random.default_rng(10)
    y, x, arm = random.normal(size=200), random.normal(size=200), np.arange(200) % 2
    assert (units.adjusted(y, np.full(200, np.nan), arm) == y).all()
    x[::5] = np.nan
    assert np.isfinite(units.adjusted(y, x, arm)).all()
    assert units.adjusted(y, x, arm).mean() == pytest.approx(y.mean())


def test_an_arm_under_a_third_needs_more_units():
    assert units.enough([100, 100], "continuous")
    assert not units.enough([399, 4000], "continuous")
    assert units.enough([400, 4000], "continuous")
    assert units.enough([50, 4000], "binary")
    assert not units.enough([99, 99], "ratio")


def test_thompson_weights_are_beta_integrals_with_a_floor():
    weights = bandit.thompson_weights([40, 50], [100, 100], seed=1, draws=40_000)
    better = integrate.quad(
        lambda p: stats.beta.pdf(p, 51, 51) * stats.beta.cdf(p, 41, 61), 0, 1, epsabs=1e-9
    )[0]
    assert weights[1] == pytest.approx(0.05 + 0.9 * better, abs=0.01)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0.05


def test_the_same_phase_gives_the_same_weights_and_another_others():
    seeds = {bandit.phase_seed(salt, phase) for salt in "ab" for phase in (1, 2)}
    assert len(seeds) == 4
    once, again = (bandit.thompson_weights([1, 2], [9, 9], seed=bandit.phase_seed("a", 1)) for _ in "12")
    assert (once == again).all()


def test_replay_weighs_by_what_was_likely():
    told = bandit.replay([1, 0, 1], [0.5, 0.5, 0.25], [1, 1, 0.25])
    assert told.value == pytest.approx((2 + 1) / 5)
    assert told.effective_units == pytest.approx(25 / 9)


def test_a_leader_is_proven_by_a_gap_and_never_before_fifty_units():
    assert best_arm.best_rate([90, 10], [100, 100], 0.05, 0.05).proven
    assert not best_arm.best_rate([49, 0], [49, 49], 0.05, 0.05).proven
    assert not best_arm.best_rate([50, 50], [100, 100], 0.01, 0.05).proven
    assert best_arm.best_rate([10, 90, 20], [100, 100, 100], 0.05, 0.05).leader == 1


def test_a_longer_race_at_one_rate_narrows_the_interval():
    widths = [float(sequences.half_width(np.sqrt(0.5 / n), n, 0.05, 5000)) for n in (200, 800, 3200, 12800)]
    assert all(later < earlier for earlier, later in pairwise(widths))
