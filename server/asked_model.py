"""The decoder as a search asks it: is this answer right, how long is that prompt, say it in other words."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import httpx

from prompts.layout import lay_out
from prompts.matching import exact_match
from prompts.records import Demo, Message, Prompt, Template
from prompts.search.proposing import Tell
from server.errors import ServerError
from server.label_scoring import LabelTokens, label_tokens, score_labels
from server.records import Limits
from server.seams import Decoder
from server.token_reading import TokenReading

AT_ONCE = 16
ANSWER_TOKENS = 32  # of an answer when the template does not say
SAID_TOKENS = 96  # of an instruction
WRITER_SECONDS = 120.0
T = TypeVar("T")


class AskedModel:
    """A `prompts.search.candidates.Judge` over a decoder; blocks, and must not be used on an event loop.

    Labels are right when theirs is the likeliest, answers when they match exactly; greedy, so that a search
    can be run again.
    """

    def __init__(self, decoder: Decoder, runner: asyncio.Runner) -> None:
        """`runner` is the one whose loop the decoder was opened on."""
        self._decoder, self._runner = decoder, runner
        self._labels: dict[str, LabelTokens] = {}
        self._asked = 0

    def right(
        self, template: Template, items: Sequence[Demo], shown: Sequence[Sequence[Demo]] | None = None
    ) -> list[float]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(item: Demo, demos: Sequence[Demo]) -> float:
            async with places:
                return await self._right(template, item, demos)

        async def every() -> list[float]:
            return await asyncio.gather(*map(one, items, shown or [()] * len(items)))

        return self._run(every())

    def tokens(self, template: Template, item: Demo) -> int:
        return self._laid_out(template, item, ())[0].tokens

    def tell(self, request: str, seed: int) -> str:
        """What the model writes, drawn at temperature 1."""
        prompt = self._decoder.tokenizer.chat([Message("user", request)])
        return self._run(self._said(prompt, Limits(max_tokens=SAID_TOKENS, temperature=1.0, seed=seed)))

    async def _right(self, template: Template, item: Demo, demos: Sequence[Demo]) -> float:
        prompt, reading = self._laid_out(template, item, demos)
        ids = reading.ids(prompt.messages)
        if template.labels is None:
            most = template.sampling.max_tokens or ANSWER_TOKENS
            said = await self._said(ids, Limits(max_tokens=most, temperature=0.0))
            return exact_match(said, [item.output])
        if template.digest not in self._labels:
            self._labels[template.digest] = label_tokens(template, self._decoder.tokenizer, None)
        scores = await score_labels(ids, self._labels[template.digest], self._decoder.first_tokens)
        return float(template.labels.labels[scores.index(max(scores))].id == item.label)

    async def _said(self, prompt: tuple[int, ...], limits: Limits) -> str:
        self._asked += 1
        pieces = self._decoder.decode(prompt, limits, request_id=f"search-{self._asked}")
        return "".join([piece.text async for piece in pieces])

    def _laid_out(self, template: Template, item: Demo, demos: Sequence[Demo]) -> tuple[Prompt, TokenReading]:
        reading = TokenReading(self._decoder.tokenizer, template.layout.format == "plain")
        prompt = lay_out(
            template,
            question=item.input,
            demos=demos,
            room=self._decoder.profile.context_tokens - template.budget.reserve,
            count=reading,
            special_tokens=self._decoder.profile.special_tokens,
        )
        return prompt, reading

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def writer(url: str, model: str, key: str) -> Tell:
    """Another endpoint with OpenAI's chat route, to write instructions.

    What it returns raises ServerError when it is no answer.
    """
    base = url.rstrip("/").removesuffix("/v1")
    client = httpx.Client(timeout=WRITER_SECONDS, headers={"authorization": f"Bearer {key}"})

    def tell(request: str, seed: int) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": request}],
            "max_tokens": SAID_TOKENS,
            "temperature": 1.0,
            "seed": seed,
        }
        try:
            answer = client.post(f"{base}/v1/chat/completions", json=body)
            answer.raise_for_status()
            return str(answer.json()["choices"][0]["message"]["content"] or "")
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as problem:
            raise ServerError(f"the writer at {base} does not answer: {type(problem).__name__}") from None

    return tell
