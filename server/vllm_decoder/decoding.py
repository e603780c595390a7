"""The decoder as the server sees it: one AsyncLLM, token ids in, pieces out."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from server.errors import EngineUnavailable, InvalidValue
from server.records import Limits, ModelProfile, Piece
from server.vllm_decoder.options import EngineOptions
from server.vllm_decoder.pieces import as_pieces
from server.vllm_decoder.sampling import sampling_params
from server.vllm_decoder.scoring import first_tokens
from server.vllm_decoder.starting import in_thread, profile_of, start
from server.vllm_decoder.tokenizer import VllmTokenizer


class VllmDecoder:
    """Decodes with vLLM's AsyncLLM. Closing an iterator aborts its request in the engine."""

    def __init__(self, engine: Any, profile: ModelProfile) -> None:
        self._engine = engine
        self._profile = profile
        self._tokenizer = VllmTokenizer(engine.get_tokenizer())
        self._probes = 0

    @classmethod
    async def open(cls, options: EngineOptions) -> "VllmDecoder":
        """Start the engine without holding up the event loop (tens of seconds, mostly imports).

        Raises EngineUnavailable with vLLM's own reason when it does not start.
        """
        try:
            engine = await in_thread(lambda: start(options))
        except Exception as problem:
            raise EngineUnavailable(f"vLLM did not start: {type(problem).__name__}: {problem}") from problem
        return cls(engine, profile_of(engine, options))

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    @property
    def tokenizer(self) -> VllmTokenizer:
        return self._tokenizer

    async def decode(
        self, prompt: tuple[int, ...], limits: Limits, *, request_id: str
    ) -> AsyncGenerator[Piece]:
        # vLLM refuses n > 1 at temperature 0, where all choices are the same: decode once, say it n times.
        copies = limits.n if limits.temperature == 0 else 1
        params = sampling_params(replace(limits, n=1) if copies > 1 else limits)
        inputs: dict[str, Any] = {"prompt_token_ids": list(prompt)}
        if limits.cache_salt:
            inputs["cache_salt"] = limits.cache_salt
        outputs = self._engine.generate(inputs, params, request_id)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    for piece in as_pieces(output):
                        for copy in range(copies):
                            yield replace(piece, index=copy) if copies > 1 else piece
        except Exception as problem:
            if self._engine.errored:
                raise EngineUnavailable("the engine has died; it is not answering") from problem
            if isinstance(problem, ValueError) and limits.schema is not None:
                raise InvalidValue(
                    "the engine cannot turn this schema into a grammar; simplify it", param="response_format"
                ) from problem
            raise

    async def first_tokens(
        self, prompt: tuple[int, ...], candidates: Sequence[int], *, cache_salt: str = ""
    ) -> list[float]:
        self._probes += 1
        name = f"score-{self._probes}"
        return await first_tokens(self._engine, prompt, candidates, request_id=name, cache_salt=cache_salt)

    async def close(self) -> None:
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()  # or it logs the core's orderly end as a crash
        await asyncio.to_thread(self._engine.shutdown)
