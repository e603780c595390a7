"""From logged turns to a verdict."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.analysis.blocks import blocks_of
from prompts.analysis.verdict import judge
from prompts.experiment_records import Outcome
from prompts.outcomes import outcome, units_of
from tests.prompts.analysis.logs import HOUR, START, experiment_of, phases_of, turns

LATER = START + 1_000_000.0


def judged(experiment, rows, now=LATER):
    return judge(experiment, phases_of(experiment), units_of(rows), now)


def test_the_better_arm_wins_and_whoever_looks_later_finds_the_same():
    experiment = experiment_of()
    rows = turns(experiment, 3000, solved={"plain": 0.5, "shown": 0.62})
    final = judged(experiment, rows).verdict
    assert (final.finding, final.arm) == ("winner", "shown")
    for now in np.linspace(START, LATER, 12):
        seen = judged(experiment, [row for row in rows if row["at"] <= now], float(now)).verdict
        assert seen == final if final.at <= now else seen.finding == "running"


def test_equal_arms_are_equivalent_or_undecided():
    equal = {"plain": 0.5, "shown": 0.5}
    wide = experiment_of(("equivalent_within = 0.03", "equivalent_within = 0.15"))
    assert judged(wide, turns(wide, 3000, solved=equal)).verdict.finding == "equivalent"
    short = experiment_of(("most_units = 40000", "most_units = 2000"))
    assert judged(short, turns(short, 2500, solved=equal)).verdict.finding == "undecided"


def test_harm_to_a_guardrail_stops_before_the_winner_is_called():
    experiment = experiment_of()
    rows = turns(experiment, 3000, solved={"plain": 0.5, "shown": 0.62}, slow={"plain": 0.05, "shown": 0.3})
    found = judged(experiment, rows).verdict
    assert (found.finding, found.arm, found.metric) == ("harmful", "shown", "slow")
    assert found.at < START + 5000  # after a few blocks, not at the end


def test_a_guardrail_that_never_trips_does_not_block_the_winner():
    experiment = experiment_of()
    none = {"plain": 0.0, "shown": 0.0}
    rows = turns(experiment, 3000, solved={"plain": 0.5, "shown": 0.65}, slow=none)
    assert judged(experiment, rows).verdict.finding == "winner"


def test_units_that_are_lost_make_the_experiment_invalid():
    experiment = experiment_of()
    rows = turns(
        experiment,
        3000,
        solved={"plain": 0.5, "shown": 0.5},
        arm_of=lambda n: "shown" if n % 5 > 1 else "plain",
    )
    found = judged(experiment, rows)
    assert found.verdict.finding == "invalid"
    assert found.assigned.totals == (1200, 1800)
    assert found.assigned.e_value > 1000


def test_feedback_that_is_itself_an_effect_blocks_the_winner():
    experiment = experiment_of(('from = "feedback.thumb"', 'from = "feedback.thumb"\nmissing = "exclude"'))
    rows = turns(experiment, 3000, solved={"plain": 0.5, "shown": 0.7}, answers={"plain": 0.8, "shown": 0.2})
    found = judged(experiment, rows)
    assert found.answered["solved"].alarm
    assert not found.assigned.alarm
    assert found.verdict.finding != "winner" or found.verdict.at < found.answered["solved"].alarm_at


def test_an_arm_that_fails_scores_lower_and_not_equal():
    experiment = experiment_of()
    rows = turns(experiment, 4000, solved={"plain": 0.9, "shown": 0.9}, failed={"shown": 0.1})
    found = judged(experiment, rows)
    shown = [one.value for one in found.outcomes["solved"] if one.arm == "shown"]
    assert np.mean(shown) == pytest.approx(0.81, abs=0.03)


def test_missing_feedback_is_failure_or_no_outcome_as_the_file_says():
    experiment = experiment_of()
    rows = turns(experiment, 1, solved={"plain": 1.0, "shown": 1.0}, answers={"plain": 0.0, "shown": 0.0})
    (log,) = units_of(rows).values()
    metric = experiment.metrics["solved"]
    assert outcome(metric, log, LATER).value == 0.0
    assert outcome(replace(metric, missing="exclude"), log, LATER) is None
    assert outcome(metric, log, START + HOUR - 1) is None  # the window is open


def test_a_correction_that_nobody_wrote_is_no_missing_answer():
    experiment = experiment_of(('from = "feedback.thumb"', 'from = "feedback.correction"\nbetter = "lower"'))
    metric = experiment.metrics["solved"]
    rows = turns(experiment, 1, solved={"plain": 1.0, "shown": 1.0})
    (log,) = units_of(rows).values()
    assert outcome(metric, log, LATER).value == 1.0  # nothing to correct: good
    rows[-1]["feedback"].append({"kind": "correction", "value": "No.", "at": rows[-1]["at"]})
    assert outcome(metric, log, LATER).value == 0.0
    rows[-1].update(feedback=[], failed=True)
    assert outcome(metric, log, LATER).value == 0.0  # nobody corrects what never came


def test_feedback_after_the_window_does_not_count():
    experiment = experiment_of()
    rows = turns(experiment, 1, solved={"plain": 1.0, "shown": 1.0})
    for row in rows:
        row["feedback"][0]["at"] += HOUR
    (log,) = units_of(rows).values()
    assert outcome(experiment.metrics["solved"], log, LATER).value == 0.0


def test_a_unit_counts_for_what_it_met_first():
    experiment = experiment_of()
    rows = turns(experiment, 1, solved={"plain": 1.0, "shown": 1.0}, arm_of=lambda _: "plain", seed=3)
    rows.append({**rows[-1], "turn": "t-0-9", "at": rows[-1]["at"] + 9, "arm": "shown"})
    (log,) = units_of(rows).values()
    assert (log.arm, log.crossed) == ("plain", True)


def outcomes(draw, experiment):
    arms = [arm.name for arm in experiment.arms]
    size = draw(st.integers(0, 400))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    return [
        Outcome(
            f"u{n}",
            arms[int(rng.integers(2))],
            1 + int(rng.integers(2)),
            False,
            0.5,
            float(rng.integers(50)),
            float(rng.integers(2)),
        )
        for n in range(size)
    ]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_blocks_hold_every_outcome_once_and_do_not_depend_on_the_order(data):
    experiment = experiment_of(("block_units = 50", "block_units = 10"))
    made = outcomes(data.draw, experiment)
    blocks = blocks_of(experiment, made, 1e9)
    shuffled = data.draw(st.permutations(made))
    again = blocks_of(experiment, shuffled, 1e9)
    assert np.array_equal(blocks.sums, again.sums)
    assert np.array_equal(blocks.closed_at, again.closed_at)
    held = [int(at) for members in blocks.members for at in members]
    assert len(held) == len(set(held))
    for members, phase, sums in zip(blocks.members, blocks.phase, blocks.sums, strict=True):
        assert {made[at].phase for at in members} == {phase}
        assert sums[:, 0].min() == 10
    assert list(blocks.closed_at) == sorted(blocks.closed_at)


def test_a_metric_turned_round_gives_the_mirrored_answer():
    up = experiment_of()
    down = experiment_of(
        (
            '[metrics.solved]\nfrom = "feedback.thumb"',
            '[metrics.solved]\nfrom = "feedback.thumb == 0"\nbetter = "lower"\nmissing = "exclude"',
        )
    )
    rows = turns(up, 2000, solved={"plain": 0.5, "shown": 0.6})
    first, second = judged(up, rows), judged(down, rows)
    one, other = first.effects["solved", "shown"], second.effects["solved", "shown"]
    assert np.allclose(one.difference, other.difference)
    assert np.allclose(one.log_e, other.log_e)
    assert first.verdict.finding == second.verdict.finding


def test_renaming_the_arms_changes_nothing():
    experiment = experiment_of()
    rows = turns(experiment, 2000, solved={"plain": 0.5, "shown": 0.6})
    renamed = experiment_of(
        ('"plain"', '"zeta"'), ("[arms.plain]", "[arms.zeta]"), ("[arms.shown]", "[arms.alpha]")
    )
    names = {"plain": "zeta", "shown": "alpha"}
    other = judged(renamed, [{**row, "arm": names[row["arm"]]} for row in rows])
    first = judged(experiment, rows)
    assert np.allclose(first.effects["solved", "shown"].log_e, other.effects["solved", "alpha"].log_e)
    assert names.get(first.verdict.arm) == other.verdict.arm


def test_a_ratio_is_judged_by_units_not_by_turns():
    experiment = experiment_of()
    found = judged(experiment, turns(experiment, 2000, solved={"plain": 0.5, "shown": 0.5}))
    one = found.effects["length", "shown"]
    assert one.lower[-1] < 0 < one.upper[-1]
    assert np.isnan(one.log_e).all()
