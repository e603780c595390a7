"""Logged turns of made-up users, for the tests of judging."""

import random

from prompts.experiment_files import parse_experiment
from prompts.experiment_records import Frozen, Phase
from prompts.experiments import assign

FILE = """
format = 1
name = "shots"
question = "Do worked examples help?"
salt = "3f9a1c64e0b7258d9c41f6a27be05d18"
unit = "user"
control = "plain"
ramp = 1.0
[arms.plain]
weight = 0.5
template = "plain@1"
[arms.shown]
weight = 0.5
template = "few-shot@1"
[metrics.solved]
from = "feedback.thumb"
window_hours = 1
[metrics.slow]
from = "request.ttft_ms > 800"
per_unit = "any"
better = "lower"
window_hours = 1
[metrics.length]
kind = "ratio"
from = "request.completion_tokens"
over = "request.turns"
window_hours = 1
[decide]
primary = "solved"
guardrails = [{ metric = "slow", margin = 0.05 }]
expected_units = 2000
block_units = 50
most_units = 40000
least_days = 0
equivalent_within = 0.03
"""
HOUR = 3600.0
START = 1_000_000.0


def experiment_of(*edits):
    text = FILE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return parse_experiment(text.encode(), "shots.toml")


def phases_of(experiment, *starts):
    arms = tuple(Frozen(arm.name, arm.weight, {}) for arm in experiment.arms)
    return tuple(Phase(number, at, arms) for number, at in enumerate(starts or (START,), 1))


def turns(
    experiment, users, *, solved, slow=None, failed=None, seed=1, apart=10.0, answers=None, arm_of=None
):
    """One to three turns of each user; `solved` and the others are rates by arm."""
    rng = random.Random(seed)
    rows = []
    for number in range(users):
        user = f"user-{number}"
        arm = arm_of(number) if arm_of else assign(experiment, user).arm
        at = START + number * apart
        for turn in range(rng.randint(1, 3)):
            fails = rng.random() < (failed or {}).get(arm, 0.0)
            good = rng.random() < solved[arm]
            heard = rng.random() < (answers or {}).get(arm, 1.0)
            feedback = [{"kind": "thumb", "value": good, "at": at + turn + 5}] if heard and not fails else []
            rows.append(
                {
                    "turn": f"t-{number}-{turn}",
                    "at": at + turn,
                    "unit": user,
                    "arm": arm,
                    "phase": 1,
                    "propensity": 0.5,
                    "slice": False,
                    "failed": fails,
                    "feedback": feedback,
                    "ttft_ms": 900.0 if rng.random() < (slow or {}).get(arm, 0.02) else 100.0,
                    "completion_tokens": 10 + rng.randint(0, 5),
                }
            )
    return rows
