"""The experiment file of the docs, for the tests."""

from prompts.experiment_files import parse_experiment

EXCERPT_SHOTS = """
format   = 1
name     = "excerpt-shots"
question = "Do four nearest examples route better than none, at the same latency?"
salt     = "3f9a1c64e0b7258d9c41f6a27be05d18"
unit     = "conversation"
control  = "plain"
ramp     = 0.20
mode     = "fixed"
slice    = 0.0
[arms.plain]
weight = 0.5
template = "route-message@2"
fewshot = { static = { strategy = "none" }, dynamic = { strategy = "none" } }
[arms.nearest]
weight = 0.5
template = "route-message@2"
pool = "routing@5"
retrieval = { store = "handbook", top = 4, rerank = false, generation = "pinned" }
adapter = ""
sampling = { temperature = 0.0, max_tokens = 8 }
[metrics.solved]
kind = "binary"
from = "feedback.thumb"
per_unit = "last"
missing = "failure"
window_hours = 24
[metrics.slow]
kind = "binary"
from = "request.ttft_ms > 800"
per_unit = "any"
better = "lower"
[decide]
primary = "solved"
guardrails = [{ metric = "slow", margin = 0.02 }]
alpha = 0.05
expected_units = 5000
equivalent_within = 0.02
block_units = 50
most_units = 40000
least_days = 7
"""


def excerpt_shots(*edits):
    """The experiment of the docs, with (old, new) texts of the file exchanged."""
    text = EXCERPT_SHOTS
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return parse_experiment(text.encode(), "excerpt-shots.toml")
