"""A small experiment over templates that ship, for the tests of the server."""

LIVE = """
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
sampling = { temperature = 0.0 }
[metrics.solved]
from = "feedback.thumb"
window_hours = 24
[decide]
primary = "solved"
block_units = 50
least_days = 0
"""


def live(*edits):
    """The file's text with (old, new) exchanged."""
    text = LIVE
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text
