"""A decoder without a model: for smoke tests and for benchmarks of everything around the engine.

Its tokens are code points, so any text has ids, any ids have text, and a multi-byte character is one token.
"""

import asyncio
import hashlib
import math
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from prompts.records import Message
from server.calling import Calling, Function
from server.coalescing import Coalescing
from server.echo_script import Script, Telling, sure
from server.hermes import HermesReader, worded
from server.loadables import Loadable
from server.profile import ModelProfile
from server.records import FinishReason, Limits, Piece, TokenLogprob
from server.seams import Show

ECHO = "echo"  # the name it is served by
LAST_CODE_POINT = 0x10FFFF
SPECIAL = {"<|im_start|>": LAST_CODE_POINT + 1, "<|im_end|>": LAST_CODE_POINT + 2}
SPECIAL_TEXT = {token: text for text, token in SPECIAL.items()}


class EchoAdapters:
    """Holds adapters by name alone; each begins its answers with its reference in brackets."""

    kinds = frozenset({"lora", "soft-prompt", "prefix", "full", "delta", "ia3", "bottleneck"})

    def __init__(self) -> None:
        self._held: dict[str, Loadable] = {}
        self.loads = 0  # so far, of all
        self.dead: set[str] = set()  # held by name, and answering no more

    async def load(self, adapter: Loadable) -> None:
        self.loads += 1
        self._held[adapter.reference] = adapter

    async def unload(self, reference: str) -> None:
        self._held.pop(reference, None)
        self.dead.discard(reference)

    async def loaded(self) -> frozenset[str]:
        return frozenset(self._held)

    def lost(self) -> frozenset[str]:
        return frozenset(self.dead)

    def mark(self, reference: str | None) -> str:
        """Raises LookupError for one that is not held: nothing may answer in its place."""
        return "" if reference is None else f"[{self._held[reference].reference}] "


UTF_32 = f"utf-32-{sys.byteorder[0]}e"  # a code point is a number of this machine's, without a mark before


def _numbers(text: str) -> bytes:
    return text.encode(UTF_32, "surrogatepass")


def _ids(numbers: bytes) -> tuple[int, ...]:
    return tuple(memoryview(numbers).cast("I"))


START = SPECIAL["<|im_start|>"].to_bytes(4, sys.byteorder)
END_OF_LINE = SPECIAL["<|im_end|>"].to_bytes(4, sys.byteorder) + _numbers("\n")


class EchoTokenizer:
    """One id a code point; ChatML around the messages, functions and calls in the words of Hermes."""

    special_ids = frozenset(SPECIAL_TEXT)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool | None = None,
        functions: Sequence[Function] = (),
        known: dict[str, tuple[int, ...]] | None = None,
    ) -> tuple[int, ...]:
        numbers: list[bytes] = []
        for message in worded(messages, functions):
            numbers += START, _numbers(f"{message.role}\n{message.text}"), END_OF_LINE
        return _ids(b"".join((*numbers, START, _numbers("assistant\n"))))

    def encode(self, text: str) -> tuple[int, ...]:
        return _ids(_numbers(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(SPECIAL_TEXT.get(token) or chr(token) for token in tokens)


class EchoDecoder:
    """Says the last user message again, or `reply`, up to `tokens` tokens, at the pace asked for.

    With an interval, tokens come by the clock as an engine's do: what nobody asked for in time is one piece.
    It is looked for when `coalescing` says; without, as soon as a token has come.

    Honours n, max_tokens, stop, ignore_eos, logprobs and closing. Sampling changes nothing: it is an echo.
    A question that holds a call in the words of Hermes, or the JSON that a forced call must be, plays it.
    """

    def __init__(
        self,
        *,
        reply: str | None = None,
        tokens: int | None = None,
        first_seconds: float = 0.0,
        interval_seconds: float = 0.0,
        coalescing: Coalescing | None = None,
        context_tokens: int = 65_536,
        created: int = 0,
        name: str = ECHO,
        tool_parser: str | None = "hermes",
    ) -> None:
        self.tool_parser = tool_parser
        self._reply = reply
        self._tokens = tokens
        self._first_seconds = first_seconds
        self._interval_seconds = interval_seconds
        self._coalescing = coalescing
        self._tokenizer = EchoTokenizer()
        self._adapters = EchoAdapters()
        self.running = 0  # requests being decoded now
        self._profile = ModelProfile(
            name=name,
            sha256=hashlib.sha256(b"echo").hexdigest(),
            context_tokens=context_tokens,
            vocabulary=LAST_CODE_POINT + 1 + len(SPECIAL),
            engine="echo",
            engine_version="1",
            dtype="none",
            created=created,
            special_tokens=tuple(SPECIAL),
            device="cpu",
            flags={"batch_invariant": True},
        )

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    @property
    def tokenizer(self) -> EchoTokenizer:
        return self._tokenizer

    @property
    def adapters(self) -> EchoAdapters:
        return self._adapters

    async def decode(
        self,
        prompt: tuple[int, ...],
        limits: Limits,
        *,
        request_id: str,
        adapter: str | None = None,
        show: Show | None = None,
    ) -> AsyncGenerator[Piece]:
        script = self._script(prompt, limits, self._adapters.mark(adapter))
        self.running += 1
        try:
            await asyncio.sleep(self._first_seconds)
            # Of several choices each has a piece of its own, and the last must not wait for n rests.
            coalescing, show = (self._coalescing, show) if limits.n == 1 else (None, None)
            interval = self._interval_seconds
            telling = Telling(script, interval_seconds=interval, coalescing=coalescing, show=show)
            while telling.told < telling.last:
                piece = await telling.next() if interval and telling.told else telling.tell(1)
                yield piece
                for index in range(1, limits.n):
                    yield replace(piece, index=index)
        finally:
            self.running -= 1

    def call_reader(self, calling: Calling, *, streamed: bool) -> HermesReader:
        return HermesReader()

    async def first_tokens(
        self,
        prompt: tuple[int, ...],
        candidates: Sequence[int],
        *,
        cache_salt: str = "",
        adapter: str | None = None,
    ) -> list[float]:
        """Uniform over the candidates: an echo has no opinion."""
        return [-math.log(len(candidates))] * len(candidates)

    async def close(self) -> None:
        return None

    def _script(self, prompt: tuple[int, ...], limits: Limits, mark: str) -> Script:
        reply = mark + (self._reply if self._reply is not None else self._question(prompt))
        wanted = self._tokens or (limits.max_tokens if limits.ignore_eos else len(reply))
        text = (reply * (wanted // max(len(reply), 1) + 1))[:wanted] if reply else ""
        finish: FinishReason = "stop"
        found = [place for stop in limits.stop if (place := text.find(stop)) >= 0]
        if found:
            text = text[: min(found)]
        if len(text) > limits.max_tokens:
            text, finish = text[: limits.max_tokens], "length"
        return Script(
            text=text,
            finish=finish,
            alternatives=limits.logprobs,
            prompt_logprobs=_certain(prompt) if limits.prompt_logprobs is not None else None,
        )

    def _question(self, prompt: tuple[int, ...]) -> str:
        """The last user message of a ChatML prompt; the whole prompt when it is raw text."""
        text = self._tokenizer.decode(prompt)
        *_, last = text.rpartition("<|im_start|>user\n")
        return last.partition("<|im_end|>")[0]


def _certain(prompt: tuple[int, ...]) -> tuple[TokenLogprob | None, ...]:
    tokenizer = EchoTokenizer()
    return (None, *(sure(tokenizer.decode([token]), 1) for token in prompt[1:]))
