"""Label scores become probabilities; what the prompt alone makes likely is divided out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.calibration import (
    COLDEST,
    HOTTEST,
    best_temperature,
    calibrated,
    calibration_error,
    mean_probabilities,
    probabilities,
    tempered,
)
from prompts.calibrator import Scored, cross_fitted, fit, read, read_all, write
from prompts.errors import CalibratorInvalid

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


def drawn(rng, n=4000, labels=3, temperature=1.0):
    """Probabilities and labels drawn from them at `temperature`."""
    shares = rng.dirichlet(np.ones(labels), size=n)
    truth = tempered(shares, temperature)
    return shares, (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    shares, gold = drawn(np.random.default_rng(3), temperature=temperature)
    assert best_temperature(shares, gold) == pytest.approx(temperature, rel=0.08)
    before, after = calibration_error(shares, gold), calibration_error(cross_fitted(shares, gold), gold)
    assert after < 0.03
    assert after < before or temperature == 1.0


@given(st.lists(st.tuples(scores, st.integers(0, 2)), min_size=1, max_size=12))
def test_no_other_temperature_is_likelier(rows):
    shares = probabilities([row for row, _ in rows])
    gold = [label for _, label in rows]

    def loss(temperature):
        return -np.log(np.maximum(tempered(shares, temperature)[range(len(gold)), gold], 1e-300)).mean()

    best = best_temperature(shares, gold)
    others = (COLDEST, max(best * 0.9, COLDEST), min(best * 1.1, HOTTEST), 1.0, HOTTEST)
    assert all(loss(best) <= loss(other) + 1e-6 for other in others)


def test_the_error_is_the_mean_gap_between_confidence_and_accuracy():
    shares = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    gold = [0] * 9 + [1] + [0] * 6 + [1] * 4
    assert calibration_error(shares, gold, bins=2) == pytest.approx(0)
    assert calibration_error(shares, [0] * 20, bins=2) == pytest.approx((0.1 + 0.4) / 2)
    assert calibration_error(shares, [1] * 20) == pytest.approx(0.75)
    assert np.isnan(calibration_error(shares[:0], []))


OF = Scored(
    template="mood@1",
    template_sha256="t",
    labels=("a", "b", "c"),
    scoring="first_token",
    demos=8,
    pool_sha256="p",
    model_sha256="m",
)


def test_a_calibrator_survives_its_file_and_shows_an_edit(tmp_path):
    shares, gold = drawn(np.random.default_rng(5), n=200)
    biased = np.log(shares) + np.array([1.5, 0.0, -1.0])
    made = fit(OF, biased, gold=gold)
    assert made.error_after < made.error_before
    path = write(made, tmp_path)
    assert (read(path), read_all(tmp_path)) == (made, {OF: made})
    assert path.name == f"mood@1.{made.digest[:12]}.json"
    assert np.allclose(
        made.probabilities(biased),
        tempered(calibrated(biased, mean_probabilities(biased)), made.temperature),
    )
    path.write_text(path.read_text().replace('"temperature": ', '"temperature": 1'))
    with pytest.raises(CalibratorInvalid, match="edited"):
        read(path)


def test_what_was_measured_beside_it_does_not_change_a_calibrators_digest():
    rows = np.log(np.random.default_rng(1).dirichlet(np.ones(3), size=70))
    plain = fit(OF, rows)
    assert plain.digest == replace(plain, items=9, error_before=0.5, prompts=80).digest
    assert plain.digest != replace(plain, temperature=1.1).digest
    assert plain.digest != replace(plain, of=replace(OF, demos=4)).digest


def test_few_questions_are_told_to_use_content_free_inputs(tmp_path):
    rows = np.log(np.random.default_rng(1).dirichlet(np.ones(3), size=63))
    with pytest.raises(CalibratorInvalid, match="at least 64"):
        fit(OF, rows)
    free = fit(OF, rows, method="content_free", content_free=rows[:3])
    assert (free.prompts, free.mean) == (3, tuple(mean_probabilities(rows[:3])))
    assert np.allclose(fit(OF, rows, method="none").probabilities(rows), probabilities(rows))
    write(free, tmp_path)
    write(replace(free, temperature=2.0), tmp_path)
    with pytest.raises(CalibratorInvalid, match="keep one"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda said: said.update(format=2),
        lambda said: said.update(mean=[0.5, 0.5]),
        lambda said: said.update(mean=[0.0, 0.5, 0.5]),
        lambda said: said.update(temperature=0),
        lambda said: said.update(method="guess"),
        lambda said: said["of"].pop("demos"),
    ],
)
def test_a_damaged_calibrator_is_refused(tmp_path, damage):
    rows = np.log(np.random.default_rng(1).dirichlet(np.ones(3), size=64))
    path = write(fit(OF, rows), tmp_path)
    said = json.loads(path.read_text())
    damage(said)
    path.write_text(json.dumps(said))
    with pytest.raises(CalibratorInvalid):
        read(path)
