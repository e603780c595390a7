"""One choice of an answer, growing: what is said, what is called, what is cited."""

import asyncio
from dataclasses import replace

from prompts.records import Call
from server.calling import CallPart
from server.citing import Citer
from server.links import source_list
from server.records import Choice, FinishReason, Piece, TokenLogprob, Wishes
from server.seams import CallReader


class ChoiceSoFar:
    """One choice, growing."""

    def __init__(self, citer: Citer | None, calls: "CallsSoFar | None" = None) -> None:
        self.citer = citer
        self.calls = calls
        self.texts: list[str] = []
        self.tokens: list[int] = []
        self.cached_tokens = 0  # of the prompt
        self.logprobs: list[TokenLogprob] = []
        self.prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
        self.finish: FinishReason | None = None

    def take(self, piece: Piece) -> Piece:
        """The piece as it may be shown: possible markers are held back."""
        if not self.tokens:
            self.cached_tokens = piece.cached_tokens
        self.tokens += piece.tokens
        if piece.logprobs:
            self.logprobs += piece.logprobs
        if piece.prompt_logprobs is not None:
            self.prompt_logprobs = piece.prompt_logprobs
        if self.calls is not None:
            piece = self.calls.take(piece)
        if piece.finish is not None:
            self.finish = piece.finish
        if self.citer is not None:
            text = self.citer.feed(piece.text)
            if piece.finish:
                text += self.citer.finish()
            if text is not piece.text:
                piece = replace(piece, text=text)
        self.texts.append(piece.text)
        return piece

    async def verify(self, last: Piece, wishes: Wishes, public_url: str) -> Piece:
        """The last piece with its citations, their support looked up beside the event loop."""
        if self.citer is None or not (self.citer.cites or wishes.unsupported):
            return last
        verified = await asyncio.to_thread(self.citer.verify, every_sentence=wishes.unsupported)
        links = source_list(self.citer.cited, public_url) if wishes.citations == "links" else ""
        self.texts.append(links)
        return replace(last, text=last.text + links, citations=verified.citations)

    def choice(self, index: int) -> Choice:
        return Choice(
            index=index,
            text="".join(self.texts),
            tokens=tuple(self.tokens),
            finish=self.finish or "stop",
            logprobs=tuple(self.logprobs) if self.logprobs else None,
            prompt_logprobs=self.prompt_logprobs,
            citations=self.citer.citations if self.citer else (),
            unsupported=self.citer.verified.unsupported if self.citer and self.citer.verified else (),
            calls=self.calls.calls if self.calls else (),
            calls_before_text=self.calls.before_text if self.calls else 0,
        )


class CallsSoFar:
    """The calls of one choice, growing."""

    def __init__(self, reader: CallReader, *, parallel: bool, by_name: bool) -> None:
        self._reader = reader
        self._parallel = parallel
        self._by_name = by_name
        self._begun: list[CallPart] = []
        self._arguments: list[list[str]] = []
        self._blank = ""
        self._spoken = False
        self.before_text = 0

    def take(self, piece: Piece) -> Piece:
        """The piece, its calls told from its text. OpenAI's word for an end after a call by name is stop."""
        heard = self._reader.read(piece.text, piece.tokens, ends=piece.finish is not None)
        kept = tuple(part for part in heard.calls if self._parallel or part.at == 0)
        text = self._unblanked(heard.text, ends=bool(piece.finish))
        for part in kept:
            if part.name is not None:
                self._begun.append(part)
                self._arguments.append([])
            self._arguments[part.at].append(part.arguments)
        called = piece.finish == "stop" and bool(self._begun) and not self._by_name
        return replace(piece, text=text, calls=kept, finish="tool_calls" if called else piece.finish)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(
            Call(begun.id or "", begun.name or "", "".join(said))
            for begun, said in zip(self._begun, self._arguments, strict=True)
        )

    def _unblanked(self, text: str, *, ends: bool) -> str:
        """The text without blanks at its end: they are shown when words follow, not around a call."""
        text = self._blank + text
        words = text if ends and not self._begun else text.rstrip()
        self._blank = text[len(words) :]
        if words and not self._spoken:
            self._spoken = True
            self.before_text = len(self._begun)
        return words
