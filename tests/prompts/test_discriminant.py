"""What labels teach: probabilities by Bayes' rule, and a nearness that is the text's where that is none."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.demos import Pool
from prompts.discriminant import LEAST, Discriminant, label_nearness
from prompts.listing import parse_lines


def units(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def topics_and_moods(count, seed):
    """Texts whose vector is mostly topic (three numbers) and a little mood (the last), and their moods."""
    rng = np.random.default_rng(seed)
    moods = rng.integers(2, size=count)
    return units(np.column_stack([3 * rng.normal(size=(count, 3)), moods - 0.5])), moods


def pool_of(vectors, moods, weight):
    lines = [
        json.dumps({"id": f"{at:03}", "input": f"text {at}", "output": str(mood), "label": str(mood)})
        for at, mood in enumerate(moods)
    ]
    return Pool(parse_lines(lines, "here"), vectors=vectors, label_weight=weight)


def share_of_mood(weight):
    """Of the eight nearest demos of unseen texts, how many share the mood."""
    vectors, moods = topics_and_moods(400, seed=1)
    questions, their_moods = topics_and_moods(100, seed=2)
    pool = pool_of(vectors, moods, weight)
    picked = [pool.pick("?", 8, vector=vector).demos for vector in questions]
    return np.mean(
        [demo.label == str(mood) for demos, mood in zip(picked, their_moods, strict=True) for demo in demos]
    )


def test_neighbours_share_the_mood_when_the_labels_say_so():
    assert share_of_mood(0.0) < 0.75
    assert share_of_mood(0.8) > share_of_mood(0.0) + 0.15


def test_probabilities_are_bayes_rule_for_gaussians_of_one_covariance():
    rng = np.random.default_rng(3)
    moods = rng.random(20_000) < 0.3
    points = (rng.normal(size=(20_000, 2)) + np.where(moods[:, None], [1.0, 0.0], [-1.0, 0.0])).astype(
        np.float32
    )
    taught = Discriminant(points, [str(mood) for mood in moods])
    at = np.array([[0.0, 0.0], [1.0, 3.0], [-0.5, 0.0]], dtype=np.float32)
    truth = 0.3 / (0.3 + 0.7 * np.exp(-2 * at[:, 0]))  # ln p1/p0 = 2x of unit Gaussians at +1 and -1
    assert taught.labels == ("False", "True")
    np.testing.assert_allclose(taught.probabilities(at)[:, 1], truth, atol=0.02)


@given(st.integers(2, 5), st.integers(1, 12), st.integers(0, 9), st.floats(0.01, 1))
def test_nearness_never_exceeds_1_and_is_1_for_the_text_itself(labels, width, seed, weight):
    rng = np.random.default_rng(seed)
    vectors = units(rng.normal(size=(labels * LEAST, width)))
    nearness = label_nearness(vectors, [f"l{at % labels}" for at in range(len(vectors))], weight)
    assert nearness is not None
    found = nearness(vectors[0], vectors @ vectors[0])
    assert found.shape == (len(vectors),)
    assert found.max() <= 1 + 1e-5
    assert found[0] == pytest.approx(1, abs=1e-5)


@given(st.permutations(range(80)))
def test_the_order_of_the_lines_teaches_nothing(order):
    vectors, moods = topics_and_moods(80, seed=4)
    question = vectors[0]
    one, other = (
        label_nearness(vectors[rows], [str(mood) for mood in moods[rows]], 0.8)
        for rows in (np.arange(80), order)
    )
    assert one is not None
    assert other is not None
    again = other(question, vectors[order] @ question)
    np.testing.assert_allclose(one(question, vectors @ question)[order], again, atol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [[None] * 40, ["a"] * 40, ["a"] * (41 - LEAST) + ["b"] * (LEAST - 1)],
    ids=["none", "one label", "too few of one"],
)
def test_labels_that_teach_nothing_leave_the_text_alone(labels):
    vectors, _ = topics_and_moods(40, seed=5)
    assert label_nearness(vectors, labels, 0.8) is None


def test_unlabelled_demos_are_judged_by_those_with_a_label():
    vectors, moods = topics_and_moods(80, seed=6)
    labels = [str(mood) for mood in moods[:60]]
    everyone = label_nearness(vectors, labels + [None] * 20, 0.8)
    labelled = label_nearness(vectors[:60], labels, 0.8)
    assert everyone is not None
    assert labelled is not None
    found = everyone(vectors[70], vectors @ vectors[70])
    assert found[70] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found[:60], labelled(vectors[70], vectors[:60] @ vectors[70]), atol=1e-6)


def test_too_far_is_still_measured_by_the_text():
    vectors, moods = topics_and_moods(60, seed=7)
    demos = pool_of(vectors, moods, 1.0).pick("?", 60, vector=vectors[0], max_distance=0.5).demos
    assert {demo.id for demo in demos} == {f"{at:03}" for at in range(60) if vectors[at] @ vectors[0] >= 0.5}
