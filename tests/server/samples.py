"""Real small objects of the server's life, and the openai client over bytes of ours."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import httpx2  # what the openai client of today speaks through
import openai
import orjson

from prompts.records import Call, Message
from server.echo_decoder import EchoTokenizer
from server.records import Choice, Limits, Piece, Plan, Reply, TokenLogprob, Turn, Usage
from server.sources import Citation, SourceUse
from server.wire.chat import read_chat
from server.wire.reading import Context

SOURCE = SourceUse(
    n=1,
    file_id="file-a",
    filename="policy.md",
    store_id="vs_1",
    chunk_id="ch_9",
    title="Policy",
    text="Refunds take 30 days.",
    score=0.83,
    page_start=3,
    page_end=3,
    char_start=5120,
    char_end=6010,
    generation=12,
)
CITATION = Citation(
    source=SOURCE,
    marker_start=8,
    marker_end=11,
    answer_start=0,
    answer_end=11,
    check="span",
    char_start=5130,
    char_end=5150,
)


HELLO = {"role": "user", "content": "Hello"}


def ask(*, context: Context | None = None, **fields: Any) -> Turn:
    """What the chat route makes of a body with these fields."""
    body = {"model": "m", "messages": [HELLO], **fields}
    return read_chat(orjson.dumps(body), context or Context(id="chatcmpl-1", created=7))


def chat_turn(**fields: Any) -> Turn:
    asked = {
        "messages": (Message("user", "Hello"),),
        "id": "chatcmpl-1",
        "created": 7,
        "tenant": "t",
        "model": "m",
    }
    return Turn(**{**asked, **fields})


def plan_of(turn: Turn, **fields: Any) -> Plan:
    known: dict[str, Any] = {
        "base": "m",
        "base_sha256": "b" * 64,
        "fingerprint": "fp_0123456789ab",
        "prompts": ((1, 2, 3),) * max(len(turn.prompts), 1),
        "prompt_sha256": "c" * 64,
        "limits": Limits(max_tokens=16, n=turn.n, logprobs=turn.logprobs),
    }
    return Plan(turn=turn, **{**known, **fields})


def reply_to(plan: Plan, pieces: Iterable[Piece]) -> Reply:
    """What the pieces add up to."""
    choices = []
    spoken = list(pieces)
    for index in sorted({piece.index for piece in spoken}):
        own = [piece for piece in spoken if piece.index == index]
        logprobs = tuple(token for piece in own for token in piece.logprobs or ())
        calls: list[Call] = []
        before_text: int | None = None
        for piece in own:
            if piece.text and before_text is None:
                before_text = len(calls)
            for part in piece.calls:
                if part.name is not None:
                    calls.append(Call(part.id or "", part.name, part.arguments))
                else:
                    said = calls[part.at]
                    calls[part.at] = replace(said, arguments=said.arguments + part.arguments)
        assert own[-1].finish
        choices.append(
            Choice(
                index=index,
                text="".join(piece.text for piece in own),
                tokens=tuple(token for piece in own for token in piece.tokens),
                finish=own[-1].finish,
                logprobs=logprobs or None,
                prompt_logprobs=own[0].prompt_logprobs,
                citations=own[-1].citations,
                calls=tuple(calls),
                calls_before_text=before_text or 0,
            )
        )
    said = sum(len(choice.tokens) for choice in choices)
    usage = Usage(prompt_tokens=plan.prompt_tokens, completion_tokens=said, cached_tokens=2)
    return Reply(plan=plan, choices=tuple(choices), usage=usage, outcome="stop", first_token_seconds=0.1)


def token(text: str, logprob: float = -0.5, *others: str) -> TokenLogprob:
    rivals = tuple(TokenLogprob(other, tuple(other.encode()), -9.0) for other in others)
    chosen = TokenLogprob(text, tuple(text.encode()), logprob)
    return TokenLogprob(text, chosen.bytes, logprob, (chosen, *rivals))


async def spoken(*pieces: Piece, after: float = 0) -> AsyncIterator[Piece]:
    await asyncio.sleep(after)
    for piece in pieces:
        yield piece


def collected(frames: AsyncIterator[bytes]) -> list[bytes]:
    """The single frames of a stream, however they were bundled."""

    async def collect() -> bytes:
        return b"".join([part async for part in frames])

    return [frame + b"\n\n" for frame in asyncio.run(collect()).split(b"\n\n") if frame]


def chunks(frames: Iterable[bytes]) -> list[dict[str, Any]]:
    """The JSON of every frame that has some."""
    return [orjson.loads(frame[6:]) for frame in frames if frame.startswith(b"data: {")]


def client_hearing(content: bytes, media_type: str = "application/json", status: int = 200) -> openai.OpenAI:
    """An unmodified client to whom every request is answered with these bytes."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": media_type}, content=content)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=http, max_retries=0)


class Listening(EchoTokenizer):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Message, ...]] = []

    def chat(self, messages, **options):
        self.asked.append(tuple(messages))
        return super().chat(messages, **options)
