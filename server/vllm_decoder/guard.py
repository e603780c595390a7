"""LoRA on vLLM's CPU backend, made right: runs in the worker, replaces three operators there.

Up to vLLM 0.32 a token without an adapter carries the slot −1, and the CPU operators index the slots with it:
−1 is the last one, so base requests beside LoRA requests got another adapter's weights (vllm#48421, #49656).
These multiply slot by slot instead, leave such tokens alone, and copy no weights: the originals gather a
whole matrix a token.
"""

from collections.abc import Iterator
from typing import Any

OPERATORS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")


def install() -> int:
    """Replace the operators wherever they were imported to; how many places. Only for the CPU backend."""
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    replaced = 0
    for module in (lora_ops, torch_ops, punica_cpu):
        for name in OPERATORS:
            if hasattr(module, name):
                setattr(module, name, globals()[name])
                replaced += 1
    return replaced


def bgmv_shrink(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
    """output[t] = scaling · inputs[t] @ weights[slots[t]]ᵀ; zero where there is no slot."""
    inputs = inputs.to(output.dtype)
    output[: len(inputs), : weights.shape[-2]] = 0
    for tokens, weight in _by_slot(slots, weights):
        output[tokens, : weight.shape[0]] = scaling * (inputs[tokens] @ weight.to(output.dtype).T)


def bgmv_expand(inputs: Any, weights: Any, output: Any, slots: Any, add_inputs: bool = True) -> None:
    """output[t] (+)= inputs[t] @ weights[slots[t]]ᵀ; untouched where there is no slot."""
    width = min(weights.shape[-2], output.shape[-1])
    _expand(inputs, weights, output, slots, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: Any, weights: Any, output: Any, slots: Any, offset: int, width: int, add_inputs: bool = True
) -> None:
    """As bgmv_expand, into the columns from `offset` on."""
    _expand(inputs, weights, output, slots, offset, width, add_inputs)


def _expand(
    inputs: Any, weights: Any, output: Any, slots: Any, offset: int, width: int, add_inputs: bool
) -> None:
    inputs = inputs.to(output.dtype)
    for tokens, weight in _by_slot(slots[: len(output)], weights):
        product = inputs[tokens] @ weight[:width].to(output.dtype).T
        if add_inputs:
            output[tokens, offset : offset + width] += product
        else:
            output[tokens, offset : offset + width] = product


def _by_slot(slots: Any, weights: Any) -> Iterator[tuple[Any, Any]]:
    """(which tokens, their matrix) for each slot that is in use."""
    there = slots.tolist()
    for slot in sorted(set(there)):
        if slot < 0:
            continue
        weight = weights[slot]
        weight = weight.squeeze(0) if weight.dim() == 3 else weight
        if all(one == slot for one in there):
            yield slice(0, len(there)), weight
        else:
            yield [at for at, one in enumerate(there) if one == slot], weight
