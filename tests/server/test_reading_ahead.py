"""Beside a search the prompt's opening is read; not where it is short, nor where nothing is searched."""

import asyncio

import pytest

from prompts.errors import SlotProblem
from prompts.layout import opening
from prompts.records import Message
from prompts.templates import Library
from server.drafts import AHEAD_CHARS, reading_ahead, split
from server.echo_decoder import EchoDecoder
from server.records import Search
from server.token_reading import Rereading, TokenReading
from tests.server.samples import Listening, chat_turn

LONG = "Be brief. " * (AHEAD_CHARS // 10)
GROUNDED = Library.load().get("grounded")
SEARCH = Search(stores=("library",))


def read(turn):
    """What was read, or None where nothing was begun."""
    tokenizer = Listening()

    async def ahead():
        reading = Rereading(TokenReading(tokenizer))
        begun = reading_ahead(turn, GROUNDED, split(turn), EchoDecoder().profile, reading)
        return begun if begun is None else await begun or tokenizer.asked

    return asyncio.run(ahead())


def talk(instructions):
    return (Message("system", instructions), Message("user", "Why?"))


def test_the_opening_is_read():
    turn = chat_turn(messages=talk(LONG), search=SEARCH)
    special = EchoDecoder().profile.special_tokens
    begins = opening(GROUNDED, question="Why?", instructions=LONG.strip(), special_tokens=special)
    (asked,) = read(turn)
    assert [message.role for message in asked] == [message.role for message in begins]
    assert LONG.strip() in asked[0].text


@pytest.mark.parametrize(("instructions", "search"), [("Be brief.", SEARCH), (LONG, Search())])
def test_nothing_is_begun_for_little_or_without_a_search(instructions, search):
    assert read(chat_turn(messages=talk(instructions), search=search)) is None


def test_what_the_layout_will_refuse_is_left_to_it():
    too_long = LONG * 60  # for the template's slot
    with pytest.raises(SlotProblem):
        opening(GROUNDED, question="Why?", instructions=too_long)
    assert read(chat_turn(messages=talk(too_long), search=SEARCH)) == []
