"""Settings → the decoder that they name."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from server.coalescing import Coalescing
from server.models import locate
from server.seams import Decoder
from server.settings import Settings


def decoder_opener(
    settings: Settings, coalescing: Coalescing | None = None
) -> Callable[[], Coroutine[Any, Any, Decoder]]:
    """How to open the decoder that the settings name; vLLM is imported only when it is opened.

    `coalescing` is for streams whose tokens are looked for; None: they are told as they come.
    """
    knobs = settings.engine

    async def echo() -> Decoder:
        from server.echo_decoder import EchoDecoder

        return EchoDecoder(
            reply=knobs.echo_reply,
            tokens=knobs.echo_tokens,
            first_seconds=knobs.echo_first_seconds,
            interval_seconds=knobs.echo_interval_seconds,
            coalescing=coalescing,
            created=int(time.time()),
            tool_parser=knobs.tool_parser,
        )

    async def vllm() -> Decoder:
        from server.vllm_decoder import EngineOptions, VllmDecoder

        return await VllmDecoder.open(
            EngineOptions(
                model=locate(knobs.model, settings.paths.cache / "models"),
                context_tokens=knobs.context,
                batch=knobs.batch,
                dtype=knobs.dtype,
                kv_cache_bytes=knobs.kv_cache_bytes,
                block_tokens=knobs.block,
                eager=knobs.eager,
                gpu_memory_share=knobs.gpu_memory_share,
                max_loras=knobs.max_loras,
                max_lora_rank=knobs.max_lora_rank,
                live_loras=knobs.live_loras,
                soft_rows=knobs.soft_rows,
                prefix_rows=knobs.prefix_rows,
                rows_cache=str(settings.paths.cache / "models-with-rows"),
                full_models=settings.adapters.full_models,
                full_kv_cache_bytes=settings.adapters.full_kv_cache_bytes,
                merged_cache=str(settings.paths.cache / "models-merged"),
                tool_parser=knobs.tool_parser,
                coalesce_seconds=settings.server.coalesce_seconds,
            ),
            coalescing,
        )

    return echo if knobs.kind == "echo" else vllm
