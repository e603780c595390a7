"""Assignment is a function; experiment files are refused with everything that is wrong."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from prompts.cli import prompts
from prompts.errors import ExperimentChanged, ExperimentInvalid
from prompts.experiment_files import parse_experiment
from prompts.experiments import assign, check_change, freeze, in_phase, next_phase, position
from tests.prompts.examples_of_experiments import EXCERPT_SHOTS, excerpt_shots

GOLDEN = json.loads((Path(__file__).parent / "assignments.json").read_text())
UNITS = st.text(max_size=20)


def test_positions_conform_to_the_published_values():
    experiment = excerpt_shots()
    found = [round(position(experiment, purpose, "user-17"), 6) for purpose in ("ramp", "slice", "arm")]
    assert found == [0.138362, 0.879410, 0.202424]
    assert round(position(experiment, "arm", "Zoë"), 6) == 0.085133
    assert position(experiment, "arm", "Zoe\u0308") == position(experiment, "arm", "Zoë")


@pytest.mark.parametrize("unit", GOLDEN)
def test_assignments_never_change_between_versions(unit):
    assert {"enrolled": GOLDEN[unit]["enrolled"], "arm": GOLDEN[unit]["arm"]} == {
        "enrolled": assign(excerpt_shots(), unit).enrolled,
        "arm": assign(excerpt_shots(("ramp     = 0.20", "ramp = 1.0")), unit).arm,
    }


@given(UNITS, st.floats(0, 1), st.floats(0, 1))
def test_a_growing_ramp_moves_nobody(unit, one, other):
    small, large = (replace(excerpt_shots(), ramp=ramp) for ramp in sorted((one, other)))
    before, after = assign(small, unit), assign(large, unit)
    assert not before.enrolled or after == before


@given(UNITS)
def test_the_order_of_arms_in_the_file_changes_nothing(unit):
    swapped = EXCERPT_SHOTS.replace("arms.plain", "arms.x").replace("arms.nearest", "arms.plain")
    swapped = swapped.replace("arms.x", "arms.nearest")
    other = parse_experiment(swapped.encode(), "swapped")
    assert assign(replace(other, ramp=1.0), unit) == assign(replace(excerpt_shots(), ramp=1.0), unit)


def test_shares_follow_the_weights_of_each_phase_and_the_slice_is_uniform():
    edits = [("ramp     = 0.20", "ramp = 1.0"), ('mode     = "fixed"', 'mode = "thompson"')]
    edits += [("slice    = 0.0", "slice = 0.3"), ("[arms.plain]\nweight = 0.5", "[arms.plain]\nweight = 0.9")]
    edits += [("[arms.nearest]\nweight = 0.5", "[arms.nearest]\nweight = 0.1")]
    experiment = excerpt_shots(*edits)
    met = [assign(experiment, f"unit-{at}") for at in range(20_000)]
    inside, outside = [m for m in met if m.slice], [m for m in met if not m.slice]
    assert abs(len(inside) - 6000) < 4 * (20_000 * 0.3 * 0.7) ** 0.5
    for group, share in ((inside, 0.5), (outside, 0.1)):
        nearest = [m for m in group if m.arm == "nearest"]
        assert abs(len(nearest) - share * len(group)) < 4 * (len(group) * share * (1 - share)) ** 0.5
        assert {m.propensity for m in nearest} == {share}


def test_a_unit_seen_before_keeps_its_arm_phase_and_propensity():
    experiment = excerpt_shots(("ramp     = 0.20", "ramp = 1.0"))
    first = assign(experiment, "user-17")
    arms = tuple(freeze(replace(arm, weight=1 - arm.weight), {}) for arm in experiment.arms)
    later = in_phase(experiment, next_phase(experiment, arms, 0.0, None))
    assert assign(replace(later, phase=2), "user-17", first) == first


def test_a_unit_outside_the_ramp_meets_the_control_arm_and_is_not_counted():
    met = assign(replace(excerpt_shots(), ramp=0.0), "user-17")
    assert (met.arm, met.enrolled, met.propensity) == ("plain", False, 1.0)


def test_weights_that_add_up_to_a_hair_less_than_one_still_give_the_last_arm():
    experiment = excerpt_shots()
    arms = tuple(replace(arm, weight=1e-12) for arm in experiment.arms)
    assert assign(replace(experiment, arms=arms, ramp=1.0), "user-17").arm == "plain"


def test_assignment_imports_neither_numpy_nor_scipy():
    program = (
        "import sys, prompts.experiments, prompts.experiment_files\n"
        "raise SystemExit(any(m.split('.')[0] in ('numpy', 'scipy') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_file_with_many_faults_has_them_all_named():
    text = EXCERPT_SHOTS
    for old, new in [
        ('salt     = "3f9a1c64e0b7258d9c41f6a27be05d18"', "colour = 1"),
        ('control  = "plain"', 'control = "nobody"'),
        ("[arms.plain]\nweight = 0.5", "[arms.plain]\nweight = 0.7"),
        ('template = "route-message@2"\npool = "routing@5"', 'template = "latest"\npool = "routing@5"'),
        ('from = "feedback.thumb"', 'from = "feedback.stars"'),
        ('"request.ttft_ms > 800"', '"request.ttft_ms"'),
        ('primary = "solved"', 'primary = "sold"'),
    ]:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(ExperimentInvalid) as caught:
        parse_experiment(text.encode(), "faulty.toml")
    for part in (
        'here is a fresh one: salt = "',
        "colour is not a known key",
        "control 'nobody' is none of the arms nearest, plain",
        "weights add up to 1.2",
        "arms.nearest.template must name one version",
        "feedback.stars is not known",
        "metrics.slow.from is a number",
        "there is no metric 'sold'",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('mode     = "fixed"', 'mode = "thompson"', "slice must be at least 0.1"),
        ("slice    = 0.0", "slice = 0.5", "slice belongs to mode"),
        (
            'kind = "binary"\nfrom = "feedback.thumb"',
            'kind = "ratio"\nfrom = "feedback.thumb"',
            "denominator",
        ),
        ('kind = "binary"\nfrom = "feedback.thumb"', 'kind = "continuous"\nfrom = "feedback.rating"', "cap"),
        ("margin = 0.02", "margin = 0.0", "margin above 0"),
        ('{ metric = "slow", margin', '{ metric = "solved", margin', "must be different"),
        ("most_units = 40000", "most_units = 400", "must not be below"),
        ('per_unit = "last"', 'per_unit = "mean"', "must be last or any"),
        ("weight = 0.5\ntemplate", "weight = 0.0\ntemplate", "must be above 0"),
        ("format   = 1", "format = 2", "format must be 1"),
        ("ramp     = 0.20", "ramp = 1.2", "0..1"),
    ],
)
def test_a_fault_is_named(old, new, part):
    with pytest.raises(ExperimentInvalid, match=part):
        excerpt_shots((old, new))


def test_lint_checks_experiment_files_and_offers_a_salt(tmp_path):
    (tmp_path / "experiments").mkdir()
    salt = 'salt     = "3f9a1c64e0b7258d9c41f6a27be05d18"\n'
    (tmp_path / "experiments" / "shots.toml").write_text(EXCERPT_SHOTS.replace(salt, ""))
    result = CliRunner().invoke(prompts, ["lint", str(tmp_path)])
    assert result.exit_code == 1
    assert "experiments/shots.toml: salt is missing; here is a fresh one" in result.output
    assert "arms.plain.template: there is no route-message@2" in result.output


def test_a_new_digest_or_weight_opens_a_phase_and_nothing_else_does():
    experiment = excerpt_shots()
    digests = {"template": "a", "pool": "b"}
    arms = tuple(freeze(arm, digests) for arm in experiment.arms)
    first = next_phase(experiment, arms, 10.0, None)
    assert next_phase(experiment, arms[::-1], 20.0, first) is first
    second = next_phase(experiment, (arms[0], replace(arms[1], weight=0.4)), 20.0, first)
    assert (second.number, second.started) == (2, 20.0)
    changed = freeze(experiment.arms[0], {**digests, "template": "c"})
    assert next_phase(experiment, (changed, arms[1]), 30.0, second).number == 3


def test_an_arm_that_comes_or_goes_is_a_new_experiment():
    experiment = excerpt_shots()
    arms = tuple(freeze(arm, {}) for arm in experiment.arms)
    with pytest.raises(ExperimentChanged, match="fresh salt"):
        next_phase(experiment, arms[:1], 1.0, next_phase(experiment, arms, 0.0, None))


def test_a_running_experiment_may_grow_its_ramp_and_nothing_that_spoils_it():
    running = excerpt_shots()
    check_change(running, replace(running, ramp=0.5))
    with pytest.raises(ExperimentChanged) as caught:
        check_change(running, replace(running, ramp=0.1, salt="another-salt-of-mine"))
    assert len(caught.value.problems) == 2
