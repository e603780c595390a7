"""Untrusted text loses its power to look like structure. Mitigation, not a boundary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from prompts.errors import ControlText
from prompts.records import Call, Message, Role, Trust

FEW = 32  # brackets in a text that are looked at one by one
USUAL_TURNS = 64  # of longer talks nothing is remembered: there are too many shapes of them
# Turn markers of other chat formats: documents and worked examples have no honest use for them, while a
# user may well ask about them.
FOREIGN_MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
)

_INVISIBLE = re.compile(
    "["
    "\u0000-\u0008\u000b\u000e-\u001f\u007f"  # control characters, except tab and line ends
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # soft hyphen, fillers
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, bidirectional, annotation
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef"  # tag characters, the variation selectors used to smuggle
    "]+"
)
# Joiners stay after a character outside ASCII: Persian, the Indic scripts and emoji need them there.
_STRAY_JOINER = re.compile("(?<![^\u0000-\u007f\u200c\u200d])[\u200c\u200d]+")
_SHOWN = bytes(point for point in range(128) if not _INVISIBLE.match(chr(point)))
# The ones among them that Python calls printable: these, and a plane whose UTF-8 begins like this.
_UNSEEN_PRINTABLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
_TAG_PLANE = b"\xf3\xa0"


class Cleaned(NamedTuple):
    text: str
    hits: int


def neutralise(text: str, forbidden: Sequence[str]) -> Cleaned:
    """The text without invisible characters and with every forbidden string broken up by a space.

    Matching ignores case. Idempotent; no forbidden string of two or more characters is left.
    """
    return broken_up(text, breaker_of(tuple(forbidden)))


def broken_up(text: str, breaker_and_firsts: Breaker) -> Cleaned:
    """`neutralise` for whoever keeps the breaker of what is forbidden."""
    hits = 0
    if _may_hide(text):
        text, unseen = _INVISIBLE.subn("", text)
        text, joiners = _STRAY_JOINER.subn("", text)
        hits = unseen + joiners
    if not _may_break(text, breaker_and_firsts):
        return Cleaned(text, hits)
    breaker = breaker_and_firsts.pattern
    while breaker is not None:  # breaking one string can leave another, as in "<<|x|>|x|>"
        text, broken = breaker.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        hits += broken
        if not broken:
            break
    return Cleaned(text, hits)


def stays(texts: Sequence[str], breaker: Breaker) -> bool:
    """Whether `broken_up` leaves every one of these texts as it is, told by one look at all of them.

    False also where that takes a closer look.
    """
    together = "\n".join(texts)
    return not _may_hide(together) and not _may_break(together, breaker)


def forbidden_for(trust: Trust, special_tokens: Sequence[str], fences: Sequence[str]) -> tuple[str, ...]:
    """What a value of this trust must not contain; an author's value may contain anything."""
    if trust == "author":
        return ()
    foreign = FOREIGN_MARKERS if trust == "document" else ()
    return (*special_tokens, *fences, *foreign)


def check_control(messages: Sequence[Message], special: Callable[[Sequence[Message]], int]) -> None:
    """Refuse a prompt whose values became control tokens after all.

    `special` counts special-token ids after the chat template. It must give the same for these messages
    as for the same turns with every text replaced by `x`; raises ControlText otherwise. This catches a
    token put together across two values or by a tokenizer's normaliser.
    """
    found = special(messages)
    expected = special(harmless(messages))
    if found != expected:
        raise ControlText(expected, found)


def harmless(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same turns with every text replaced; calls keep the shape that templates may spell in tokens."""
    if are_wordy(messages):
        return tuple(map(_harmless, messages))
    return _wordless(tuple([message.role for message in messages]))


def are_wordy(messages: Sequence[Message]) -> bool:
    """Whether turns without their texts are still somebody's own: by calls, or by being more than usual."""
    if len(messages) > USUAL_TURNS:
        return True
    for message in messages:  # noqa: SIM110  asked three times a request: a generator costs more
        if message.calls or message.answers is not None:
            return True
    return False


@lru_cache(maxsize=256)
def _wordless(roles: tuple[Role, ...]) -> tuple[Message, ...]:
    return tuple(Message(role, "x") for role in roles)


def _harmless(message: Message) -> Message:
    calls = tuple(Call(call.id, call.name, _without_texts(call.arguments)) for call in message.calls)
    return Message(message.role, "x" if message.text or not calls else "", calls, message.answers)


def _without_texts(arguments: str) -> str:
    def blank(value: object) -> object:
        if isinstance(value, str):
            return "x"
        if isinstance(value, list):
            return [blank(item) for item in value]
        return {key: blank(item) for key, item in value.items()} if isinstance(value, dict) else value

    return json.dumps(blank(json.loads(arguments)))


def _may_hide(text: str) -> bool:
    """Whether there may be something invisible to find; nearly every text says no without being searched.

    What ASCII shows is left out first, in a seventh of the time that looking at it takes.
    """
    coded = text.encode("utf-8", "surrogatepass").translate(None, _SHOWN)
    if not coded:
        return False
    others = coded.decode("utf-8", "surrogatepass")
    if others.isprintable():
        return any(map(others.__contains__, _UNSEEN_PRINTABLE)) or _TAG_PLANE in coded
    return _INVISIBLE.search(others) is not None or "\u200c" in others or "\u200d" in others


def _may_break(text: str, breaker: Breaker) -> bool:
    """Whether something forbidden is there, or cannot be told quickly."""
    pattern, firsts = breaker
    if pattern is None or not firsts:
        return True
    looks = FEW
    for first in firsts:
        at = text.find(first)
        while at >= 0:
            if pattern.match(text, at):
                return True
            at = text.find(first, at + 1)
            looks -= 1
            if not looks:  # so many that the pattern finds its way through them sooner by itself
                return pattern.search(text) is not None
    return False


class Breaker(NamedTuple):
    """What breaks up forbidden strings."""

    pattern: re.Pattern[str] | None
    firsts: str  # the characters that a match begins with; empty where case makes them more than are listed


@lru_cache(maxsize=64)
def breaker_of(forbidden: tuple[str, ...]) -> Breaker:
    """Of `forbidden_for`'s strings; made once."""
    strings = sorted(
        {string.strip() for string in forbidden if len(string.strip()) > 1}, key=len, reverse=True
    )
    if not strings:
        return Breaker(None, "")
    firsts = sorted({string[0] for string in strings})
    classed = "".join(map(re.escape, firsts))
    # the look-ahead lets most positions fail on one character, however long the list
    pattern = re.compile(f"(?=[{classed}])(?:{'|'.join(map(re.escape, strings))})", re.IGNORECASE)
    cased = any(first.lower() != first or first.upper() != first for first in firsts)
    return Breaker(pattern, "" if cased else "".join(firsts))
