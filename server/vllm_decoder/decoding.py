"""The decoder as the server sees it: one AsyncLLM, token ids in, pieces out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from server.calling import Calling
from server.coalescing import Coalescing
from server.errors import EngineUnavailable, InvalidValue
from server.profile import ModelProfile
from server.records import Limits, Piece
from server.seams import Show
from server.vllm_decoder.adapters import Held, VllmAdapters, adapting, inputs_of
from server.vllm_decoder.engines import shut
from server.vllm_decoder.options import EngineOptions, set_environment
from server.vllm_decoder.pieces import as_pieces
from server.vllm_decoder.sampling import sampling_params
from server.vllm_decoder.scoring import first_tokens
from server.vllm_decoder.starting import in_thread, profile_of, reserve_rows, start
from server.vllm_decoder.streams import UNDECODED, Streams, keeps_tokens
from server.vllm_decoder.tokenizer import VllmTokenizer
from server.vllm_decoder.tool_parsing import ToolParsing, VllmCallReader, check_parser


class VllmDecoder:
    """Decodes with vLLM's AsyncLLM. Closing an iterator aborts its request in the engine."""

    def __init__(
        self,
        engine: Any,
        profile: ModelProfile,
        parsing: ToolParsing | None = None,
        *,
        coalesce_seconds: float = 0.02,
        coalescing: Coalescing | None = None,
    ) -> None:
        self._engine = engine
        self._coalescing = coalescing
        self._coalesce_seconds = coalesce_seconds
        self._keeps_tokens = keeps_tokens(engine)
        self._streams: WeakKeyDictionary[Any, Streams] = WeakKeyDictionary()
        self._profile = profile
        self._tokenizer = VllmTokenizer(engine.get_tokenizer())
        self._parsing = parsing
        self._adapters: VllmAdapters | None = None
        self._probes = 0

    @classmethod
    async def open(cls, options: EngineOptions, coalescing: Coalescing | None = None) -> "VllmDecoder":
        """Start the engine without holding up the event loop (tens of seconds, mostly imports).

        `coalescing` is for a vLLM whose requests cannot keep their tokens.
        Raises EngineUnavailable with vLLM's own reason when it does not start.
        """

        def opened() -> tuple[Any, ToolParsing | None]:
            if options.tool_parser is None:
                return start(options), None
            set_environment(options)
            check_parser(options.tool_parser)  # before the engine: a misspelt name should not take a minute
            engine = start(options)
            return engine, ToolParsing(options.tool_parser, engine.get_tokenizer(), engine.model_config)

        try:
            engine, parsing = await in_thread(opened)
        except Exception as problem:
            raise EngineUnavailable(f"vLLM did not start: {type(problem).__name__}: {problem}") from problem
        decoder = cls(
            engine,
            profile_of(engine, options, reserve_rows(options)),
            parsing,
            coalesce_seconds=options.coalesce_seconds,
            coalescing=coalescing,
        )
        try:
            decoder._adapters = await adapting(engine, options)
        except Exception as problem:
            await decoder.close()
            raise EngineUnavailable(f"adapters cannot be served: {problem}") from problem
        return decoder

    @property
    def engine(self) -> Any:
        """vLLM's own AsyncLLM, for measuring what is above it."""
        return self._engine

    @property
    def profile(self) -> ModelProfile:
        return self._profile

    @property
    def tokenizer(self) -> VllmTokenizer:
        return self._tokenizer

    @property
    def tool_parser(self) -> str | None:
        return self._parsing.name if self._parsing else None

    def call_reader(self, calling: Calling, *, streamed: bool) -> VllmCallReader:
        if self._parsing is None:
            raise RuntimeError("no tool parser was named: check `tool_parser` first")
        return self._parsing.reader(calling, streamed=streamed)

    @property
    def adapters(self) -> VllmAdapters | None:
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
        # vLLM refuses n > 1 at temperature 0, where all choices are the same: decode once, say it n times.
        copies = limits.n if limits.temperature == 0 else 1
        marked = limits.parsed and self._parsing is not None and self._parsing.needs_special_tokens
        params = sampling_params(replace(limits, n=1) if copies > 1 else limits, special_tokens=marked)
        held = self._held(adapter)
        engine = self._engine_of(held)
        inputs = inputs_of(prompt, limits.cache_salt, held)
        how: dict[str, Any] = {"lora": held.lora if held else None, "skip": len(held.ids) if held else 0}
        try:
            if self._keeps_tokens and params.n == 1:
                streams = self._streams_of(engine)
                stream = await streams.open(
                    inputs, params, request_id, show=show if copies == 1 else None, **how
                )
                try:
                    while said := await stream.next():
                        for piece in said:
                            yield piece
                            for copy in range(1, copies):
                                yield replace(piece, index=copy)
                finally:
                    await streams.close(stream)
                return
            # Of several choices each has a piece of its own, and the last must not wait for n rests.
            rests = self._coalescing if limits.n == 1 else None
            async with aclosing(_generated(engine, inputs, params, request_id, **how)) as pieces:
                async for piece in pieces:
                    for copy in range(copies):
                        yield replace(piece, index=copy) if copies > 1 else piece
                    if rests is not None and piece.finish is None:
                        await rests.rest()  # vLLM's output collector adds up what is not fetched
        except EngineUnavailable:
            raise
        except Exception as problem:
            if engine.errored:
                raise EngineUnavailable("the engine has died; it is not answering") from problem
            if isinstance(problem, ValueError) and limits.schema is not None:
                raise InvalidValue(
                    "the engine cannot turn this schema into a grammar; simplify it", param=limits.schema_of
                ) from problem
            raise

    async def first_tokens(
        self,
        prompt: tuple[int, ...],
        candidates: Sequence[int],
        *,
        cache_salt: str = "",
        adapter: str | None = None,
    ) -> list[float]:
        self._probes += 1
        name = f"score-{self._probes}"
        held = self._held(adapter)
        inputs = inputs_of(prompt, cache_salt, held)
        lora = held.lora if held else None
        return await first_tokens(self._engine_of(held), inputs, candidates, request_id=name, lora=lora)

    def _engine_of(self, held: Held | None) -> Any:
        return held.engine if held and held.engine is not None else self._engine

    def _streams_of(self, engine: Any) -> Streams:
        streams = self._streams.get(engine)
        if streams is None:
            streams = self._streams[engine] = Streams(engine, self._coalesce_seconds)
        return streams

    def _held(self, adapter: str | None) -> Held | None:
        """Raises InvalidValue for an adapter that is not in the engine."""
        if adapter is not None and self._adapters is None:
            raise InvalidValue(f"this engine holds no adapters, and so not {adapter}", param="model")
        return self._adapters.held(adapter) if self._adapters else None

    async def close(self) -> None:
        if self._adapters is not None:
            await self._adapters.close()
        await shut(self._engine)


async def _generated(
    engine: Any, inputs: Any, params: Any, request_id: str, *, lora: Any, skip: int
) -> AsyncGenerator[Piece]:
    """Through vLLM's own generator: for several choices, and where requests cannot keep their tokens."""
    async with aclosing(engine.generate(inputs, params, request_id, lora_request=lora)) as outputs:
        async for output in outputs:
            if any(choice.finish_reason == "error" for choice in output.outputs):
                raise EngineUnavailable(UNDECODED)
            for piece in as_pieces(output, skip=skip):
                yield piece
