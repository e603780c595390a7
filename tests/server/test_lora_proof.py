"""What the proof of LoRA takes for the same answer: rounding, but never another adapter's distribution."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.vllm_decoder.selftest import TOLERANCE, TOLERANCE_SIXTEEN_BITS, TOP, _same


def answer(rng, steps=4, vocabulary=500, noise=0.0, of=None):
    """Greedy over random logits: (token, the likeliest candidates' log-probabilities) a step."""
    logits = rng.normal(0, 3, size=(steps, vocabulary)) if of is None else of
    logits = logits + rng.uniform(-noise, noise, size=logits.shape)
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    best = np.argsort(-logprobs, axis=1)[:, :TOP]
    return logits, [
        (int(row[0]), {int(token): float(logprobs[step, token]) for token in row})
        for step, row in enumerate(best)
    ]


@given(st.integers(0, 10**6))
def test_rounding_of_sixteen_bits_is_the_same_answer(seed):
    rng = np.random.default_rng(seed)
    logits, said = answer(rng)
    _, rounded = answer(rng, of=logits, noise=0.2)
    assert _same(said, rounded, TOLERANCE_SIXTEEN_BITS)


def test_another_distribution_is_not():
    rng = np.random.default_rng(11)
    same = [_same(answer(rng)[1], answer(rng)[1], TOLERANCE_SIXTEEN_BITS) for _ in range(500)]
    assert np.mean(same) < 0.05


def test_in_float32_a_small_difference_is_not_the_same_answer():
    said = [(1, {1: -0.5, 2: -2.0})]
    assert _same(said, [(1, {1: -0.505, 2: -2.0})], TOLERANCE)
    assert not _same(said, [(1, {1: -0.6, 2: -2.0})], TOLERANCE)
    assert not _same(said, [(2, {1: -2.0, 2: -0.5})], TOLERANCE)
