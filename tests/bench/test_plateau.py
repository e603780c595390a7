"""What is counted on a plateau: nothing of the beginning and nothing of the end."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.plateau import lengths, rate


class Answer(NamedTuple):
    asked: float
    first: float
    ended: float
    tokens: int


def closed_loop(streams, waves, tokens, step, begin):
    """Every stream asks again at once; a question takes `begin` seconds, then a token each `step`."""
    free = [0.0] * streams
    answers = []
    for wanted in lengths(streams, waves, tokens):
        stream = free.index(min(free))
        asked = free[stream]
        answers.append(Answer(asked, asked + begin, asked + begin + wanted * step, wanted))
        free[stream] = answers[-1].ended
    return answers


@given(
    st.integers(2, 40), st.integers(3, 5), st.integers(50, 400), st.floats(0.001, 0.1), st.floats(0.0, 0.2)
)
def test_streams_that_are_always_busy_have_the_rate_of_their_steps(streams, waves, tokens, step, begin):
    answers = closed_loop(streams, waves, tokens, step, begin)
    found, seconds = rate(answers, streams)
    assert seconds > 0
    whole = streams * tokens / (tokens * step + begin)  # with the question's own time
    assert whole * 0.6 <= found <= streams / step * (1 + 1e-9)
    if begin == 0:
        assert found == pytest.approx(streams / step)


def test_lengths_are_spread_first_and_whole_then():
    assert lengths(4, 2, 100) == [25, 50, 75, 100, 100, 100, 100, 100]


def test_a_single_wave_has_no_plateau():
    with pytest.raises(ValueError, match="no plateau"):
        rate(closed_loop(4, 1, 100, 0.01, 0.0), 4)
