"""From options to a running engine and the profile of its model."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from server.models import folder_digest, served_name
from server.profile import ModelProfile
from server.vllm_decoder.options import EngineOptions, set_environment
from server.vllm_decoder.rows import Rows, with_rows
from server.vllm_decoder.sampling import own_sampling

GIB = 2**30
T = TypeVar("T")


def start(options: EngineOptions, core: Mapping[str, Any] | None = None) -> Any:
    """The engine, up: an AsyncLLM. `core` has the addresses of a core that runs already."""
    set_environment(options)
    from vllm import envs
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    on_cpu = current_platform.is_cpu()
    kv_cache_bytes = options.kv_cache_bytes or (GIB if on_cpu else None)
    extra: dict[str, Any] = {"kv_cache_memory_bytes": kv_cache_bytes} if kv_cache_bytes else {}
    if not on_cpu:
        # Beside a size for the cache too: vLLM looks for this share of the card free before it starts, and
        # takes 0.92 when not told.
        extra["gpu_memory_utilization"] = options.gpu_memory_share
    dtype: Any = options.dtype
    if dtype == "auto" and on_cpu:
        dtype = "float32"  # bfloat16 is emulated without AVX512-BF16: 5.4 times slower when measured
    rows = reserve_rows(options)
    arguments = AsyncEngineArgs(
        model=str(rows.folder) if rows else options.model,
        tokenizer=options.model,
        **_adapting(options, rows),
        dtype=dtype,
        max_model_len=options.context_tokens,
        max_num_seqs=options.batch,
        max_logprobs=20,
        enable_prefix_caching=True,
        # The CPU's default of 128 wastes up to 127 tokens of every shared prefix.
        block_size=options.block_tokens or (32 if on_cpu else 16),
        enforce_eager=on_cpu if options.eager is None else options.eager,
        enable_log_requests=False,
        disable_log_stats=not options.metrics,
        use_tqdm_on_load=False,
        **extra,
    )
    # By it vLLM chooses the tokens of a step: 8192 on a large card for a server, 2048 where nobody says.
    usage = UsageContext.OPENAI_API_SERVER
    engine = AsyncLLM.from_vllm_config(
        arguments.create_engine_config(usage),
        usage_context=usage,
        enable_log_requests=False,
        disable_log_stats=not options.metrics,
        client_addresses=dict(core) if core else None,
    )
    # As its own processes do when they are up; else every token asks the environment, for 2 µs.
    envs.enable_envs_cache()
    return engine


def reserve_rows(options: EngineOptions) -> Rows | None:
    """The model with room for soft prompts and prefixes; None where none is asked for.

    Raises ValueError for a model that is no folder, or whose embedding cannot be found.
    """
    if not options.reserved_rows:
        return None
    if not Path(options.model).is_dir():
        raise ValueError("engine.soft_rows needs engine.model to be a folder; download the model into one")
    digest = folder_digest(options.model)
    return with_rows(Path(options.model), options.reserved_rows, Path(options.rows_cache), digest)


def _adapting(options: EngineOptions, rows: Rows | None) -> dict[str, Any]:
    """Arguments that only adapters need."""
    more: dict[str, Any] = {}
    if options.extended:
        more["worker_extension_cls"] = "server.vllm_decoder.worker.AdapterWorker"
    if options.max_loras:
        more |= {
            "enable_lora": True,
            "max_loras": options.max_loras,
            "max_lora_rank": options.max_lora_rank,
            "max_cpu_loras": options.loras_in_memory,  # else max_loras, and a rotation reads the disk
        }
    if rows and options.prefix_rows:
        from vllm.config import KVTransferConfig

        more["disable_hybrid_kv_cache_manager"] = True
        more["kv_transfer_config"] = KVTransferConfig(
            kv_connector="PrefixConnector",
            kv_connector_module_path="server.vllm_decoder.prefix",
            kv_role="kv_both",
            kv_connector_extra_config={"first": rows.first + options.soft_rows},
        )
    return more


async def in_thread(work: Callable[[], T]) -> T:
    """Like asyncio.to_thread, on a daemon thread: a start-up that hangs must not keep the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, problem: BaseException | None) -> None:
        if done.cancelled():
            return
        done.set_exception(problem) if problem else done.set_result(result)

    def run() -> None:
        try:
            result, problem = work(), None
        except BaseException as caught:
            result, problem = None, caught
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="vllm-start", daemon=True).start()
    return await done


def profile_of(engine: Any, options: EngineOptions, rows: Rows | None = None) -> ModelProfile:
    import vllm
    from vllm.platforms import current_platform

    config = engine.model_config
    tokenizer = engine.get_tokenizer()
    weights = folder_digest(options.model)
    dtype = str(config.dtype).removeprefix("torch.")
    return ModelProfile(
        name=served_name(options.model),
        sha256=weights,
        context_tokens=config.max_model_len,
        vocabulary=rows.first if rows else config.get_vocab_size(),  # reserved ids are nobody's to send
        engine="vllm",
        engine_version=vllm.__version__,
        dtype=dtype,
        created=int(time.time()),
        special_tokens=tuple(sorted(set(tokenizer.all_special_tokens))),
        sampling=own_sampling(config.get_diff_sampling_param()),
        device=current_platform.get_device_name(),
        flags=_flags(engine.vllm_config, on_cpu=current_platform.is_cpu()),
    )


def _flags(config: Any, *, on_cpu: bool) -> dict[str, bool | int | str]:
    """Options that can change what rounding does to an answer."""
    from vllm import envs

    return {
        "batch_invariant": bool(envs.VLLM_BATCH_INVARIANT) and not on_cpu,
        "batch": config.scheduler_config.max_num_seqs,
        "block": config.cache_config.block_size,
        "eager": config.model_config.enforce_eager,
        **({"threads": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto")} if on_cpu else {}),
    }
