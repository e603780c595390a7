"""Seeded prompts of an exact number of tokens (performance.md §3.4)."""

import random
from typing import NamedTuple

from prompts.records import Message
from server.seams import Tokenizer

# Frequent words, so that most are one token and the text reads like text to any tokenizer.
COMMON = """
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend father power hour game line end member law car city community
name president team minute idea kid body information back parent face others level office door
health person art war history party result change morning reason research girl guy moment air
teacher force education
"""
WORDS = COMMON.split()
FILLERS = (" a", "a")  # one token each, nearly everywhere the first, of characters the second


class ChatPrompt(NamedTuple):
    """One user message and the ids that the model's chat template makes of it."""

    text: str
    ids: tuple[int, ...]


def chat_prompts(tokenizer: Tokenizer, *, seed: int, count: int, tokens: int) -> list[ChatPrompt]:
    """`count` prompts that differ from their first word on, so that none finds another one's cached prefix.

    Raises ValueError when the tokenizer cannot be brought to exactly `tokens` tokens.
    """
    draw = random.Random(seed)
    return [_prompt(tokenizer, draw, tokens) for _ in range(count)]


def _prompt(tokenizer: Tokenizer, draw: random.Random, tokens: int) -> ChatPrompt:
    words = draw.choices(WORDS, k=tokens)
    while words:
        text = " ".join(words)
        missing = tokens - len(tokenizer.chat([Message("user", text)]))
        for filler in FILLERS:
            filled = text + filler * max(missing, 0)
            ids = tokenizer.chat([Message("user", filled)])
            if len(ids) == tokens:
                return ChatPrompt(filled, ids)
        del words[-max(-missing // 8, 1) :]
    raise ValueError(f"no text has exactly {tokens} tokens in this model's chat template")
