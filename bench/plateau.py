"""Tokens a second while every stream is busy: without the beginning of a run, and without its end.

The first answers are of different lengths, so that later ones do not begin and end together. The plateau
lasts from the end of the last of these to the last question: in between each stream that is answered asks
again. Tokens of an answer are taken as evenly spread from its first to its end.
"""

from collections.abc import Sequence

from bench.clocked import Decoded
from bench.crowd import Answer


def lengths(streams: int, waves: int, tokens: int) -> list[int]:
    """Tokens of each answer in order of asking: the first `streams` from few to all of `tokens`, then all."""
    spread = [max(1, tokens * (stream + 1) // streams) for stream in range(streams)]
    return [*spread, *[tokens] * (streams * (waves - 1))]


def rate(answers: Sequence[Decoded | Answer], streams: int) -> tuple[float, float]:
    """Tokens a second on the plateau, and its seconds. `answers` in order of asking.

    Raises ValueError where there is none: nothing was asked after the first answers had ended.
    """
    begins = max(answer.ended for answer in answers[:streams])
    ends = max(answer.asked for answer in answers)
    if ends <= begins:
        raise ValueError("no plateau: the last question came before the first answers had ended")
    tokens = 0.0
    for answer in answers:
        within = min(answer.ended, ends) - max(answer.first, begins)
        if within > 0:
            tokens += answer.tokens * within / (answer.ended - answer.first)
    return tokens / (ends - begins), ends - begins
