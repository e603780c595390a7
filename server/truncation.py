"""`truncation: auto` without a template: the oldest turns go until the conversation fits.

With a template the layout sees to it, which also weighs sources and worked examples.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from prompts.records import Message
from server.profile import ModelProfile
from server.records import Turn
from server.seams import Tokenizer
from server.token_reading import TokenReading


class Shortened(NamedTuple):
    turn: Turn
    gone: int  # turns left out


def shortened(turn: Turn, profile: ModelProfile, tokenizer: Tokenizer, usual_tokens: int) -> Shortened:
    """As few of the oldest turns left out as must be; instructions and the last question stay.

    What came of the last question so far stays with it; what a tool gave never stays without its call.

    The answer is promised `max_tokens`, or `usual_tokens` up to a quarter of the context.
    """
    reading = TokenReading(tokenizer, thinking=turn.thinking, functions=turn.calling.functions)
    room = profile.context_tokens - (turn.max_tokens or min(usual_tokens, profile.context_tokens // 4))
    end = _question(turn.messages)
    fixed = tuple(message for message in turn.messages[:end] if message.role == "system")
    talk = tuple(message for message in turn.messages[:end] if message.role != "system")

    def without(count: int) -> tuple[Message, ...]:
        return (*fixed, *talk[count:], *turn.messages[end:])

    def fits(count: int) -> bool:
        return reading(without(count)) <= room

    cuts = [at for at, message in enumerate(talk) if message.role != "tool"]
    gone = 0 if fits(0) else [*cuts, len(talk)][bisect_left(cuts, True, key=fits)]
    return Shortened(replace(turn, messages=without(gone)), gone) if gone else Shortened(turn, 0)


def _question(messages: Sequence[Message]) -> int:
    """Where the last message stands, or the question that led to the calls at the end."""
    at = len(messages) - 1
    while at > 0 and (messages[at].role == "tool" or messages[at].calls):
        at -= 1
    return at
