"""vLLM in process: the only file that imports vllm. One AsyncLLM, token ids in, pieces out."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from prompts.records import Message
from server.errors import EngineUnavailable, InvalidValue
from server.models import folder_digest, served_name
from server.records import Limits, ModelProfile, Piece, Sampling, TokenLogprob

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the engine is started with. None means: what is right for this machine (performance.md §6)."""

    model: str  # folder or hub id
    context_tokens: int
    batch: int
    dtype: str = "auto"
    kv_cache_bytes: int | None = None
    block_tokens: int | None = None
    eager: bool | None = None
    gpu_memory_share: float = 0.8


class VllmTokenizer:
    """The served model's tokenizer and chat template, one function for counting and for decoding."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)

    def chat(self, messages: Sequence[Message], *, thinking: bool | None = None) -> tuple[int, ...]:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        options = {} if thinking is None else {"enable_thinking": thinking}
        return tuple(
            self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False, **options
            )
        )

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))


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
            engine = await _in_thread(lambda: _start(options))
        except Exception as problem:
            raise EngineUnavailable(f"vLLM did not start: {type(problem).__name__}: {problem}") from problem
        return cls(engine, _profile(engine, options))

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
        params = _sampling_params(replace(limits, n=1) if copies > 1 else limits)
        inputs: dict[str, Any] = {"prompt_token_ids": list(prompt)}
        if limits.cache_salt:
            inputs["cache_salt"] = limits.cache_salt
        outputs = self._engine.generate(inputs, params, request_id)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    for piece in _pieces(output):
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

    async def first_tokens(self, prompt: tuple[int, ...], candidates: Sequence[int]) -> list[float]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(candidates),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._probes += 1
        inputs = {"prompt_token_ids": list(prompt)}
        async for output in self._engine.generate(inputs, params, f"score-{self._probes}"):
            found = output.outputs[0].logprobs[0]
            return [found[token].logprob for token in candidates]
        raise EngineUnavailable("the engine returned nothing for a scoring request")

    async def close(self) -> None:
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()  # or it logs the core's orderly end as a crash
        await asyncio.to_thread(self._engine.shutdown)


def _start(options: EngineOptions) -> Any:
    _environment(options)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    on_cpu = current_platform.is_cpu()
    kv_cache_bytes = options.kv_cache_bytes or (GIB if on_cpu else None)
    share = {"gpu_memory_utilization": options.gpu_memory_share}
    extra: dict[str, Any] = {"kv_cache_memory_bytes": kv_cache_bytes} if kv_cache_bytes else share
    dtype: Any = options.dtype
    if dtype == "auto" and on_cpu:
        dtype = "float32"  # bfloat16 is emulated without AVX512-BF16: 5.4 times slower when measured
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=options.model,
            dtype=dtype,
            max_model_len=options.context_tokens,
            max_num_seqs=options.batch,
            max_logprobs=20,
            enable_prefix_caching=True,
            # The CPU's default of 128 wastes up to 127 tokens of every shared prefix.
            block_size=options.block_tokens or (32 if on_cpu else 16),
            enforce_eager=on_cpu if options.eager is None else options.eager,
            enable_log_requests=False,
            use_tqdm_on_load=False,
            **extra,
        )
    )


def _environment(options: EngineOptions) -> None:
    """Set what vLLM and its child processes read from the environment, unless the operator has."""
    cores = sorted(os.sched_getaffinity(0))
    defaults = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "PYTHONWARNINGS": "ignore",  # of the engine's own processes: theirs to mend, noise to an operator
        "TOKENIZERS_PARALLELISM": "false",
    }
    if os.path.isdir(options.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    if len(cores) <= 2:
        # vLLM keeps one core for itself; on two that leaves one thread: 1.5 times slower when measured.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


async def _in_thread(work: Any) -> Any:
    """Like asyncio.to_thread, on a daemon thread: a start-up that hangs must not keep the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, problem: BaseException | None) -> None:
        if done.cancelled():
            return
        done.set_exception(problem) if problem else done.set_result(result)

    def run() -> None:
        try:
            result, problem = work(), None
        except BaseException as caught:
            result, problem = None, caught
        loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="vllm-start", daemon=True).start()
    return await done


def _profile(engine: Any, options: EngineOptions) -> ModelProfile:
    import vllm

    config = engine.model_config
    tokenizer = engine.get_tokenizer()
    weights = folder_digest(options.model)
    dtype = str(config.dtype).removeprefix("torch.")
    return ModelProfile(
        name=served_name(options.model),
        sha256=weights,
        context_tokens=config.max_model_len,
        vocabulary=config.get_vocab_size(),
        engine="vllm",
        engine_version=vllm.__version__,
        dtype=dtype,
        created=int(time.time()),
        special_tokens=tuple(sorted(set(tokenizer.all_special_tokens))),
        sampling=_own_sampling(config.get_diff_sampling_param()),
    )


def _own_sampling(said: Mapping[str, Any]) -> Sampling:
    known = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return Sampling(**{name: said[name] for name in known if name in said})


def _sampling_params(limits: Limits) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    structured = None
    if limits.schema is not None:
        structured = (
            StructuredOutputsParams(json=dict(limits.schema))
            if limits.schema
            else StructuredOutputsParams(json_object=True)
        )
    return SamplingParams(
        n=limits.n,
        max_tokens=limits.max_tokens,
        temperature=limits.temperature,
        top_p=limits.top_p,
        top_k=limits.top_k,
        min_p=limits.min_p,
        frequency_penalty=limits.frequency_penalty,
        presence_penalty=limits.presence_penalty,
        repetition_penalty=limits.repetition_penalty,
        seed=limits.seed,
        stop=list(limits.stop) or None,
        logit_bias=dict(limits.logit_bias) or None,
        ignore_eos=limits.ignore_eos,
        logprobs=limits.logprobs,
        prompt_logprobs=limits.prompt_logprobs,
        structured_outputs=structured,
        output_kind=RequestOutputKind.DELTA,  # cumulative output would be quadratic in length
    )


def _pieces(output: Any) -> list[Piece]:
    prompt_logprobs = None
    if output.prompt_logprobs:
        rows = zip(output.prompt_token_ids, output.prompt_logprobs, strict=False)
        prompt_logprobs = tuple(row and _logprob(token, row) for token, row in rows)
    pieces = []
    for choice in output.outputs:
        tokens = tuple(choice.token_ids)
        logprobs = None
        if choice.logprobs:
            rows = zip(tokens, choice.logprobs, strict=False)
            logprobs = tuple(_logprob(token, row) for token, row in rows)
        if tokens or choice.text or choice.finish_reason:
            pieces.append(
                Piece(
                    index=choice.index,
                    text=choice.text,
                    tokens=tokens,
                    logprobs=logprobs,
                    finish=choice.finish_reason,
                    cached_tokens=output.num_cached_tokens or 0,
                    prompt_logprobs=prompt_logprobs,
                )
            )
    return pieces


def _logprob(token: int, row: Mapping[int, Any]) -> TokenLogprob:
    ranked = sorted(row.items(), key=lambda item: item[1].rank)
    best = tuple(_one(entry) for _, entry in ranked)
    return replace(_one(row[token]), top=best)


def _one(entry: Any) -> TokenLogprob:
    text = entry.decoded_token or ""
    return TokenLogprob(text, tuple(text.encode()), entry.logprob)
