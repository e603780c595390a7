"""A follow-up question becomes a query that stands alone. For the search: the answer reads the talk itself.

join    the user's last turns one after the other: no model, nothing can go wrong
model   the served model rewrites the question by a template of the library, from as much of the talk as fits
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from prompts.budget import prompt_room
from prompts.errors import PromptError, PromptTooLong
from prompts.layout import lay_out
from prompts.records import Message, Prompt, Template
from server.errors import ServerError
from server.records import Limits, Query, Rewrite
from server.seams import Decoder
from server.token_reading import TokenReading

log = logging.getLogger("fewshot.rewriting")

TEMPLATE = "standalone-question"
JOINED = 2  # of the user's turns, the question among them: more draw the search away (docs/decisions/0152)
SAID_CHARS = 400  # of each earlier message: what it is about stands at its beginning
TALK_MESSAGES = 8
LONGEST_QUERY = 400  # characters
MARKERS = re.compile(r"\s*\[\d{1,3}(?:, ?\d{1,3})*\]")
SPEAKERS = {"user": "User", "assistant": "Assistant"}


def joined(question: str, history: Sequence[Message], turns: int = JOINED) -> str:
    """The user's last `turns` turns, oldest first, the question last."""
    said = [message.text for message in history if message.role == "user"]
    return "\n".join([*said[max(len(said) - turns + 1, 0) :], question])


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Asks the served model. `seconds` is as long as an answer may wait for it."""

    decoder: Decoder
    template: Template
    seconds: float
    cache_salt: str = ""  # of the tenant

    async def query(self, way: Rewrite, question: str, history: Sequence[Message], request_id: str) -> Query:
        """What to search for. Where the model fails, the question as it was asked, and `failed` says so."""
        talk = [message for message in history if message.role in SPEAKERS and message.text.strip()]
        if way == "off" or not any(message.role == "user" for message in talk):
            return Query(question)
        if way == "join":
            return Query(joined(question, talk), "join")
        try:
            async with asyncio.timeout(self.seconds):
                return await self._rewritten(question, talk, request_id)
        except (TimeoutError, PromptError, ServerError) as problem:
            log.warning("a question was not rewritten: %s: %s", type(problem).__name__, problem)
            return Query(question, "failed")

    async def _rewritten(self, question: str, talk: Sequence[Message], request_id: str) -> Query:
        reading = TokenReading(self.decoder.tokenizer)
        prompt = await asyncio.to_thread(self._prompt, question, talk, reading)
        ids = reading.checked_ids(prompt.messages)
        limits = Limits(
            max_tokens=self.template.sampling.max_tokens or 64,
            temperature=0.0,
            stop=("\n",),
            cache_salt=self.cache_salt,
        )
        texts: list[str] = []
        tokens = len(ids)
        finish = None
        async with aclosing(self.decoder.decode(ids, limits, request_id=f"{request_id}-query")) as pieces:
            async for piece in pieces:
                texts.append(piece.text)
                tokens += len(piece.tokens)
                finish = piece.finish
        text = "".join(texts).strip()
        if finish != "stop" or not text or len(text) > LONGEST_QUERY:
            return Query(question, "failed", tokens)
        return Query(text, "model", tokens)

    def _prompt(self, question: str, talk: Sequence[Message], reading: TokenReading) -> Prompt:
        """With as much of the talk as fits, the oldest left out first. Raises PromptTooLong without any."""
        profile = self.decoder.profile
        for first in range(max(len(talk) - TALK_MESSAGES, 0), len(talk)):
            said = (f"{SPEAKERS[message.role]}: {_short(message.text)}" for message in talk[first:])
            try:
                return lay_out(
                    self.template,
                    question=question,
                    variables={"conversation": "\n".join(said)},
                    room=prompt_room(profile.context_tokens, None, self.template.budget.reserve),
                    count=reading,
                    special_tokens=profile.special_tokens,
                )
            except PromptTooLong:
                if first == len(talk) - 1:
                    raise
        raise AssertionError("there is something that was said")


def _short(text: str) -> str:
    """One line without markers, cut at a word."""
    line = " ".join(MARKERS.sub("", text).split())
    return line if len(line) <= SAID_CHARS else line[:SAID_CHARS].rsplit(" ", 1)[0] + " …"
