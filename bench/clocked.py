"""The decoder of a server, with a clock in front of it."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from server.calling import Calling
from server.profile import ModelProfile
from server.records import Limits, Piece
from server.seams import AdapterHost, CallReader, Decoder, Show, Tokenizer


class Decoded(NamedTuple):
    """One answer as the decoder gave it. Times are time.monotonic(), comparable between processes."""

    asked: float
    first: float  # the first piece with text
    text: str
    tokens: int
    cached_tokens: int
    ended: float = 0.0  # where it was looked at

    @property
    def ttft(self) -> float:
        return self.first - self.asked


class Clocked:
    """The decoder, remembering when each request of the server met it and when it first spoke."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.seen: dict[str, Decoded] = {}
        self.prompts: dict[str, tuple[int, ...]] = {}

    @property
    def profile(self) -> ModelProfile:
        return self._decoder.profile

    @property
    def tokenizer(self) -> Tokenizer:
        return self._decoder.tokenizer

    @property
    def tool_parser(self) -> str | None:
        return self._decoder.tool_parser

    def call_reader(self, calling: Calling, *, streamed: bool) -> CallReader:
        return self._decoder.call_reader(calling, streamed=streamed)

    @property
    def adapters(self) -> AdapterHost | None:
        return self._decoder.adapters

    async def decode(
        self,
        prompt: tuple[int, ...],
        limits: Limits,
        *,
        request_id: str,
        adapter: str | None = None,
        show: Show | None = None,
    ) -> AsyncGenerator[Piece]:
        asked = time.monotonic()
        self.prompts[request_id] = prompt
        asked_of = self._decoder.decode(prompt, limits, request_id=request_id, adapter=adapter, show=show)
        async with aclosing(asked_of) as pieces:
            async for piece in pieces:
                if piece.text and request_id not in self.seen:
                    self.seen[request_id] = Decoded(asked, time.monotonic(), "", 0, piece.cached_tokens)
                yield piece

    async def first_tokens(
        self,
        prompt: tuple[int, ...],
        candidates: Sequence[int],
        *,
        cache_salt: str = "",
        adapter: str | None = None,
    ) -> list[float]:
        return await self._decoder.first_tokens(prompt, candidates, cache_salt=cache_salt, adapter=adapter)

    async def close(self) -> None:
        """Whoever opened the decoder closes it."""
