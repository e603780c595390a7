"""What an echo says, and when."""

import asyncio
import time
from dataclasses import replace
from typing import NamedTuple

from server.coalescing import Coalescing
from server.records import FinishReason, Piece, TokenLogprob
from server.seams import Show


class Script(NamedTuple):
    """What one answer will say."""

    text: str
    finish: FinishReason
    alternatives: int | None  # log-probabilities asked for; None: none at all
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None


class Telling:
    """A script being told: all as soon as it is asked for, or a token every interval, asked for or not.

    With an interval, what has come is looked for when `coalescing` says; without, as soon as it comes.
    Whoever waits for it is woken only by what `show` does not take.
    """

    def __init__(
        self,
        script: Script,
        *,
        interval_seconds: float,
        coalescing: Coalescing | None = None,
        show: Show | None = None,
    ) -> None:
        self._text, self._finish, self._alternatives, self._prompt_logprobs = script
        self._interval_seconds = interval_seconds
        self._coalescing = coalescing
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._waiting: asyncio.Future[Piece] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.told, self.last = 0, max(len(script.text), 1)  # tokens; an answer of none is one piece

    def tell(self, tokens: int) -> Piece:
        """The next tokens as one piece, as many as are left at most."""
        told, last = self.told, self.last
        until = told + tokens
        if until > last:
            until = last
        self.told = until
        said = self._text[told:until]
        logprobs = None
        if self._alternatives is not None and said:
            logprobs = tuple(sure(one, self._alternatives) for one in said)
        return Piece(
            text=said,
            tokens=tuple(map(ord, said)),
            logprobs=logprobs,
            finish=self._finish if until == last else None,
            prompt_logprobs=None if told else self._prompt_logprobs,
        )

    async def next(self) -> Piece:
        """What has come by the next beat, or else the token that comes after it, unless it is shown."""
        self._waiting = self._loop.create_future()
        if self._coalescing is None or not self._coalescing.call(self._look, self._loop):
            self._look()
        try:
            return await self._waiting
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _look(self) -> None:
        """Tell what has come, or look again when the next token does."""
        late = time.monotonic() - self._began - self.told * self._interval_seconds
        if late < 0:
            self._timer = self._loop.call_later(-late, self._come, 1)
        else:
            self._come(1 + int(late / self._interval_seconds))

    def _come(self, tokens: int) -> None:
        if self._waiting is None or self._waiting.done():
            return  # whoever waited has left
        piece = self.tell(tokens)
        if self._show is None or not self._show(piece):
            self._waiting.set_result(piece)
        elif self._coalescing is None or not self._coalescing.call(self._look, self._loop):
            self._loop.call_soon(self._look)


def sure(character: str, alternatives: int | None) -> TokenLogprob:
    """A token that could not have been another."""
    certain = TokenLogprob(character, tuple(character.encode()), 0.0)
    return replace(certain, top=(certain,)) if alternatives else certain
