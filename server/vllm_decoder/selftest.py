"""Proof at the start that requests beside LoRA requests get their own weights, and nobody else's.

Every slot is filled with an adapter that changes much; then the base and all of them answer in one batch and
must say what each says alone. The fault that this looks for gives no error, only wrong answers.
"""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from server.vllm_decoder.pacing import LoraLoading
from server.vllm_decoder.rehearsal import rehearse

TOKENS = 4
TOP = 8  # candidates of a step that are looked at
# Of a log-probability. The fault gives another adapter's distribution, in which the token is far down or not
# among the candidates. In sixteen bits a logit's last place alone is 0.06, and each batch rounds otherwise.
TOLERANCE, TOLERANCE_SIXTEEN_BITS = 1e-2, 1.0
FIRST_NUMBER = 2**30  # adapters of the book count from 1
PROMPT = tuple(range(5, 17))
Said = list[tuple[int, dict[int, float]]]  # token, and the candidates' log-probabilities, a step each


class LoraBroken(Exception):
    """Answers differ by what is decided beside them; LoRA must not be switched on."""


async def prove_lora(engine: Any, model: Path, slots: int) -> float:
    """Seconds of a step of one request. Raises LoraBroken. The engine holds no adapter before and after."""
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform

    shapes = _attention_shapes(model)
    loading = LoraLoading(engine, 0.0)  # as every later load
    sixteen_bits = engine.model_config.dtype.itemsize == 2
    tolerance = TOLERANCE_SIXTEEN_BITS if sixteen_bits else TOLERANCE
    with tempfile.TemporaryDirectory(prefix="fewshot-selftest-") as folder:
        requests = []
        for slot in range(slots):
            path = Path(folder) / str(slot)
            _write(path, shapes, seed=slot)
            requests.append(LoRARequest(f"selftest-{slot}", FIRST_NUMBER + slot, str(path)))
        base = await _say(engine, None, "alone")
        try:
            for request in requests:
                await loading.load(request.lora_int_id, request.lora_name, request.lora_path)
            alone = [await _say(engine, request, "alone") for request in requests]
            beside = await asyncio.gather(*(_say(engine, one, "beside") for one in (*requests, None)))
            if not current_platform.is_cpu():
                await rehearse(engine, requests[0])
        finally:
            for request in requests:
                await engine.remove_lora(request.lora_int_id)
        began = time.perf_counter()
        after = await _say(engine, None, "after")
        step_seconds = (time.perf_counter() - began) / TOKENS
    if any(_same(one, base, tolerance) for one in alone):
        raise LoraBroken("an adapter of the self-test changed nothing, so it proves nothing")
    for name, then, now in (
        *((f"adapter {slot}", *pair) for slot, pair in enumerate(zip(alone, beside[:-1], strict=True))),
        ("the base beside adapters", base, beside[-1]),
        ("the base after adapters", base, after),
    ):
        if not _same(then, now, tolerance):
            raise LoraBroken(
                f"{name} answered {_shown(now)} and, alone, {_shown(then)}: this build of vLLM mixes "
                "adapters up. Set engine.max_loras = 0, or use another build"
            )
    return step_seconds


async def _say(engine: Any, lora: Any, when: str) -> Said:
    from vllm import SamplingParams

    params = SamplingParams(
        max_tokens=TOKENS, temperature=0.0, logprobs=TOP, detokenize=False, ignore_eos=True
    )
    name = f"selftest-{lora.lora_int_id if lora else 'base'}-{when}"
    inputs = {"prompt_token_ids": list(PROMPT), "cache_salt": name}
    last: Any = None
    async for output in engine.generate(inputs, params, name, lora_request=lora):
        last = output.outputs[0]
    return [
        (token, {candidate: entry.logprob for candidate, entry in row.items()})
        for token, row in zip(last.token_ids, last.logprobs, strict=True)
    ]


def _same(one: Said, other: Said, tolerance: float) -> bool:
    """Up to rounding: where two tokens are as probable, either may be drawn, and the rest differs."""
    for (token, row), (also, beside) in zip(one, other, strict=True):
        if token != also:
            return also in row and token in beside and abs(row[token] - row[also]) <= tolerance
        if abs(row[token] - beside[token]) > tolerance:
            return False
    return True


def _shown(said: Said) -> list[tuple[int, float]]:
    return [(token, row[token]) for token, row in said]


def _attention_shapes(model: Path) -> dict[str, tuple[int, int]]:
    """Layer name → (rows, columns) of every query projection; of all matrices where there are none."""
    from safetensors import safe_open

    found: dict[str, tuple[int, int]] = {}
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(str(file), framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                if name.endswith(("q_proj.weight", "o_proj.weight")):
                    rows, columns = tensors.get_slice(name).get_shape()
                    found[name.removesuffix(".weight")] = (rows, columns)
    if not found:
        raise LoraBroken("no attention projections were found to prove LoRA on; set engine.max_loras = 0")
    return found


def _write(folder: Path, shapes: dict[str, tuple[int, int]], *, seed: int) -> None:
    from safetensors.numpy import save_file

    draw = np.random.default_rng(seed)
    tensors = {}
    for name, (rows, columns) in shapes.items():
        a = draw.normal(size=(1, columns)) / np.sqrt(columns)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = draw.normal(size=(rows, 1)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted({name.rsplit(".", 1)[-1] for name in shapes})
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 4, "bias": "none", "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
