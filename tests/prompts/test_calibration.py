"""Label scores become probabilities; what the prompt alone makes likely is divided out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prompts.calibration import calibrated, mean_probabilities, probabilities

scores = st.lists(st.floats(-50, 0), min_size=3, max_size=3)


def test_the_most_likely_label_is_not_the_prompts_favourite():
    favourite = [0.8, 0.2]
    assert np.allclose(calibrated(np.log([0.7, 0.3]), favourite).argmax(), 1)
    assert np.allclose(calibrated(np.log([0.8, 0.2]), favourite), [0.5, 0.5])


def test_known_shares_are_put_back():
    even = calibrated(np.log([0.8, 0.2]), [0.8, 0.2], shares=[0.9, 0.1])
    assert np.allclose(even, [0.9, 0.1])


def test_the_mean_is_over_prompts():
    assert np.allclose(mean_probabilities(np.log([[0.9, 0.1], [0.5, 0.5]])), [0.7, 0.3])


@given(scores)
def test_probabilities_sum_to_one_and_a_constant_mean_changes_nothing(row):
    plain = probabilities(row)
    assert np.isclose(plain.sum(), 1)
    assert np.allclose(calibrated(row, [1 / 3] * 3), plain)


@given(scores, st.permutations(range(3)))
def test_permuting_labels_permutes_results(row, order):
    mean = np.array([0.2, 0.3, 0.5])
    assert np.allclose(calibrated(np.array(row)[order], mean[order]), calibrated(row, mean)[order])
