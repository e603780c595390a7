"""LoRA on vLLM's CPU backend, made right: runs in the worker, replaces three operators there.

Up to vLLM 0.32 a token without an adapter carries the slot −1, and the CPU operators index the slots with it:
−1 is the last one, so base requests beside LoRA requests got another adapter's weights (vllm#48421, #49656).
These multiply slot by slot instead, leave such tokens alone, and copy no weights: the originals gather a
whole matrix a token.

A step of a small model is as long as its calls of Python are many, and a LoRA adds two products to every
slice of every linear layer. So what linear layers add is done here in one go too (`add_lora_linear`): which
tokens belong to which slot is worked out once a step, and no buffer lies between the two products.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

OPERATORS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")


def install() -> int:
    """Replace the operators wherever they were imported to; how many places. Only for the CPU backend."""
    import torch
    from vllm.lora.ops import torch_ops
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    replaced = 0
    for module in (lora_ops, torch_ops, punica_cpu):
        for name in OPERATORS:
            if hasattr(module, name):
                setattr(module, name, globals()[name])
                replaced += 1
    punica: Any = punica_cpu.PunicaWrapperCPU
    if not hasattr(punica, "groups_of_tokens"):
        update, linear = punica.update_metadata, punica.add_lora_linear

        def update_metadata(self: Any, *args: Any, **kwargs: Any) -> None:
            update(self, *args, **kwargs)
            self.groups_of_tokens = None
            if self.is_prefill:  # always, to vLLM's engine on a processor
                _, lengths, slots, *_ = self.prefill_metadata
                self.groups_of_tokens = [
                    (slot, tokens if isinstance(tokens, slice) else torch.tensor(tokens))
                    for slot, tokens in grouped(slots.tolist(), lengths.tolist())
                ]

        def lora_linear(self: Any, y: Any, x: Any, *args: Any, **kwargs: Any) -> None:
            if self.groups_of_tokens is None or kwargs:
                linear(self, y, x, *args, **kwargs)
            else:
                add_lora_linear(self.groups_of_tokens, y, x, *args)

        punica.groups_of_tokens = None
        punica.update_metadata, punica.add_lora_linear = update_metadata, lora_linear
        replaced += 1
    return replaced


Tokens = slice | list[int]


def grouped(slots: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, Tokens]]:
    """The tokens of each slot, of runs of so many tokens each; none of a slot below 0.

    A slice where they stand together, else their places.
    """
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    places: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for slot, run in zip(slots, pairwise(ends), strict=True):
        if slot >= 0:
            places[slot].append(run)
    return [
        (slot, slice(*runs[0]) if len(runs) == 1 else [at for run in runs for at in range(*run)])
        for slot, runs in sorted(places.items())
    ]


def add_lora_linear(
    groups: Sequence[tuple[int, Any]],
    y: Any,
    x: Any,
    shrink: Sequence[Any],
    expand: Sequence[Any],
    scale: float,
    widths: Sequence[int],
) -> None:
    """In place: y[t, slice i] += scale · x[t] @ shrink[i][slot]ᵀ @ expand[i][slot]ᵀ, for each group's tokens.

    `y` is (…, sum of `widths`), `x` (…, in), each of `shrink` (slots, 1, rank, in), each of `expand`
    (slots, 1, at least its width, rank). As in vLLM the product of the first two has 32 bits.
    """
    x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
    for slot, tokens in groups:
        read, at = x[tokens].float(), 0
        for first, second, width in zip(shrink, expand, widths, strict=True):
            low = read @ first[slot, 0].float().T
            low = (low if scale == 1.0 else scale * low).to(y.dtype)
            factor = second[slot, 0, :width].to(y.dtype).T
            if isinstance(tokens, slice):
                y[tokens, at : at + width].addmm_(low, factor)
            else:
                y[:, at : at + width].index_add_(0, tokens, low @ factor)
            at += width


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
