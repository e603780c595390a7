"""`truncation: auto` without a template: the oldest turns go until the conversation fits.

With a template the layout sees to it, which also weighs sources and worked examples.
"""

from bisect import bisect_left
from dataclasses import replace
from typing import NamedTuple

from prompts.records import Message
from server.records import Turn
from server.seams import Decoder


class Shortened(NamedTuple):
    turn: Turn
    gone: int  # turns left out


def shortened(turn: Turn, decoder: Decoder, usual_tokens: int) -> Shortened:
    """As few of the oldest turns left out as must be; instructions and the last message stay.

    The answer is promised `max_tokens`, or `usual_tokens` up to a quarter of the context.
    """
    profile, tokenizer = decoder.profile, decoder.tokenizer
    room = profile.context_tokens - (turn.max_tokens or min(usual_tokens, profile.context_tokens // 4))
    fixed = tuple(message for message in turn.messages[:-1] if message.role == "system")
    talk = tuple(message for message in turn.messages[:-1] if message.role != "system")

    def without(count: int) -> tuple[Message, ...]:
        return (*fixed, *talk[count:], *turn.messages[-1:])

    def fits(count: int) -> bool:
        return len(tokenizer.chat(without(count), thinking=turn.thinking)) <= room

    gone = 0 if fits(0) else bisect_left(range(len(talk)), True, key=fits)
    return Shortened(replace(turn, messages=without(gone)), gone) if gone else Shortened(turn, 0)
