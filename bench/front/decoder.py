"""The product's decoder over vLLM's own front end, whose engine core is `bench/front/core.py`."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

from server.seams import Decoder
from server.settings import Settings


async def null_decoder(settings: Settings, *, model: str, step_seconds: float) -> Decoder:
    """One token a stream every `step_seconds`; config and tokenizer are those of the folder `model`."""
    return await asyncio.to_thread(_opened, settings, model, step_seconds)


def _opened(settings: Settings, model: str, step_seconds: float) -> Decoder:
    from server.vllm_decoder import EngineOptions, VllmDecoder
    from server.vllm_decoder.options import set_environment
    from server.vllm_decoder.starting import profile_of, start

    knobs = settings.engine
    options = EngineOptions(model=model, context_tokens=knobs.context, batch=knobs.batch)
    set_environment(options)  # for the core too
    at = Path(tempfile.mkdtemp(prefix="fewshot-null-core-"))
    Finalize(None, shutil.rmtree, [at], {"ignore_errors": True}, exitpriority=0)  # also in a spawned process
    addresses = {"input_address": f"ipc://{at}/in", "output_address": f"ipc://{at}/out"}
    subprocess.Popen(  # ends with this process
        [
            *(sys.executable, "-m", "bench.front.core"),
            *("--input", addresses["input_address"], "--output", addresses["output_address"]),
            *("--step", str(step_seconds), "--batch", str(knobs.batch), "--tokenizer", model),
        ]
    )
    engine = start(options, addresses)
    return VllmDecoder(engine, profile_of(engine, options))
