"""The laws of advantages, ratios and divergences, against brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.advantages import (
    clipped,
    generalised,
    group_normalised,
    k1,
    k3,
    leave_one_out,
    masked_mean,
    whitened,
)

NUMBERS = st.floats(-5, 5, allow_nan=False, width=32)
TABLES = st.tuples(st.integers(1, 4), st.integers(2, 6)).flatmap(
    lambda shape: arrays("float64", shape, elements=NUMBERS)
)


@settings(deadline=None)
@given(TABLES)
def test_an_answer_is_measured_against_the_others_and_all_sum_to_zero(table):
    rewards = torch.from_numpy(table)
    found = leave_one_out(rewards)
    for row in range(rewards.shape[0]):
        for at in range(rewards.shape[1]):
            others = [float(rewards[row, other]) for other in range(rewards.shape[1]) if other != at]
            assert float(found[row, at]) == pytest.approx(
                float(rewards[row, at]) - sum(others) / len(others), abs=1e-9
            )
    assert found.sum(1).abs().max() < 1e-9
    assert group_normalised(rewards).sum(1).abs().max() < 1e-6
    assert torch.allclose(leave_one_out(rewards + 3), found)  # a prompt's level teaches nothing


@settings(deadline=None)
@given(TABLES)
def test_grpo_does_not_know_the_scale_of_rewards_and_equal_rewards_teach_nothing(table):
    rewards = torch.from_numpy(table)
    found = group_normalised(rewards)
    wide = rewards.std(1, correction=0) > 0.1
    assert torch.allclose(group_normalised(rewards * 7)[wide], found[wide], atol=0.01)
    assert (found[wide].std(1, correction=0) - 1).abs().max() < 0.01 if wide.any() else True
    assert group_normalised(torch.ones(2, 3)).abs().max() == 0


@settings(deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(*(arrays("float64", (2, n), elements=NUMBERS) for _ in range(2)))
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 6),
)
def test_gae_is_the_discounted_sum_of_surprises(tables, gamma, lam, length):
    rewards, values = map(torch.from_numpy, tables)
    length = min(length, rewards.shape[1])
    mask = torch.zeros_like(rewards)
    mask[0, :length] = 1
    mask[1, :] = 1
    rewards, values = rewards * mask, values * mask
    found = generalised(rewards, values, mask, gamma, lam)
    for row, tokens in ((0, length), (1, rewards.shape[1])):
        surprise = [
            float(rewards[row, t])
            + gamma * (float(values[row, t + 1]) if t + 1 < tokens else 0.0)
            - float(values[row, t])
            for t in range(tokens)
        ]
        for t in range(tokens):
            want = sum((gamma * lam) ** (at - t) * surprise[at] for at in range(t, tokens))
            assert float(found[row, t]) == pytest.approx(want, abs=1e-7)
    assert found[0, length:].abs().sum() == 0  # behind the end there is nothing


@settings(deadline=None)
@given(TABLES)
def test_with_lambda_and_gamma_one_an_advantage_is_what_came_less_what_was_expected(table):
    rewards = torch.from_numpy(table)
    values = torch.linspace(-1, 1, rewards.shape[1]).double().expand_as(rewards)
    found = generalised(rewards, values, torch.ones_like(rewards), 1.0, 1.0)
    came = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(found, came - values, atol=1e-6)


@settings(deadline=None)
@given(st.floats(0.01, 3), NUMBERS, st.floats(0.01, 0.9))
def test_the_clipped_loss_is_the_worse_of_both_and_stops_pulling_outside(ratio, advantage, reach):
    one = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    loss = clipped(one, torch.tensor([advantage], dtype=torch.float64), reach)
    inside = min(max(ratio, 1 - reach), 1 + reach)
    assert float(loss.detach()) == pytest.approx(-min(ratio * advantage, inside * advantage), abs=1e-9)
    assert float(loss.detach()) >= -ratio * advantage - 1e-9
    loss.backward()
    gone_far_enough = (ratio > 1 + reach and advantage > 0) or (ratio < 1 - reach and advantage < 0)
    if gone_far_enough:
        assert float(one.grad) == 0
    elif 1 - reach < ratio < 1 + reach:
        assert float(one.grad) == pytest.approx(-advantage, abs=1e-9)


@settings(deadline=None)
@given(arrays("float64", 5, elements=NUMBERS), arrays("float64", 5, elements=NUMBERS))
def test_both_estimators_have_the_divergence_as_mean_and_k3_is_never_negative(first, second):
    one, other = (torch.from_numpy(each).log_softmax(0) for each in (first, second))
    divergence = float((one.exp() * (one - other)).sum())
    assert float((one.exp() * k1(one, other)).sum()) == pytest.approx(divergence, abs=1e-9)
    assert float((one.exp() * k3(one, other)).sum()) == pytest.approx(divergence, abs=1e-7)
    assert float(k3(one, other).min()) >= -1e-12
    assert k3(one, one).abs().max() == 0


def test_means_and_whitening_are_of_what_the_mask_holds():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert masked_mean(values, mask).tolist() == [2.0, 5.0]
    white = whitened(values, mask)
    some = white[mask.bool()]
    assert float(some.mean()) == pytest.approx(0, abs=1e-6)
    assert float(some.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert white[0, 2] == white[1, 1] == 0
    assert float(some[0]) == pytest.approx((1 - 3) / math.sqrt(8 / 3), abs=1e-3)
