"""Finds launch settings of vLLM's LoRA kernels for a model on this card, and writes them as vLLM reads them.

    python -m bench lora_tune --shape 8b --out server/vllm_decoder/lora_kernels

vLLM ships no settings of its own for `lora_shrink` and `lora_expand`, only a default for all sizes: with a
few dozen tokens a step most of its blocks find nothing to do. Each kernel is timed in a CUDA graph over the
weights of all layers, so that they come from memory as in a step, not from the cache. From the default, one
setting after the other is varied (coordinate descent, twice); what is not faster by a hundredth is not taken.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench.command import say

SHAPES = Path(__file__).parent.parent / "shapes"
TOKENS = (64, 256, 16, 128, 1024, 4096)  # of a step; those of decoding first
REPLAYS = 8
MOST_SLICES = 8  # of one call; vLLM looks them up without a nearest one, and fails where they are missing
GAIN = 0.99  # of the time so far, or the setting stays
WAYS = {
    "shrink": {
        "split_k": (1, 2, 4, 8, 16, 32, 64),
        "block_k": (32, 64, 128, 256, 512),
        "block_m": (16, 32, 64),
        "num_warps": (2, 4, 8),
        "num_stages": (2, 3, 4),
    },
    "expand": {
        "block_k": (16, 32),
        "block_m": (16, 32, 64),
        "block_n": (32, 64, 128, 256),
        "num_warps": (1, 2, 4, 8),
        "num_stages": (1, 2, 3),
    },
}

Setting = dict[str, int | None]


class Kernel(NamedTuple):
    """One call of a layer: `shrink` from the hidden size to the rank, `expand` to each slice's size."""

    kind: str
    inner: int  # of shrink: what it reads
    slices: tuple[int, ...]  # of expand: what it writes

    @property
    def many(self) -> int:
        return len(self.slices)


def kernels(config: dict[str, Any]) -> list[Kernel]:
    """Those of a dense decoder with a LoRA on every linear layer, as vLLM fuses them."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    linear = [
        (hidden, (queries, keys, keys)),
        (queries, (hidden,)),
        (hidden, (inner, inner)),
        (inner, (hidden,)),
    ]
    found: dict[Kernel, None] = {}
    for size, slices in linear:
        found[Kernel("shrink", size, (0,) * len(slices))] = None
        found[Kernel("expand", 0, slices)] = None
    return list(found)


class Timer:
    """Seconds of one call of a kernel with a setting, over the weights of all layers."""

    def __init__(self, kernel: Kernel, tokens: int, loras: int, rank: int, layers: int) -> None:
        import torch
        from vllm.lora.ops.triton_ops import lora_expand_op, lora_shrink_op
        from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta

        self._torch: Any = torch
        self._kernel, self._rank = kernel, rank
        self._module: Any = lora_shrink_op if kernel.kind == "shrink" else lora_expand_op
        card, half = "cuda", torch.bfloat16
        meta = LoRAKernelMeta.make(loras, tokens, device=card)
        meta.prepare_tensors(torch.arange(tokens, dtype=torch.int32, device=card) % loras)
        self._meta = meta.meta_args(tokens, False)
        self._layers: list[list[Any]] = []
        for _ in range(layers):
            if kernel.kind == "shrink":
                sides = [(loras, 1, rank, kernel.inner)] * kernel.many
            else:
                sides = [(loras, 1, size, rank) for size in kernel.slices]
            self._layers.append([torch.randn(side, device=card, dtype=half) * 0.01 for side in sides])
        if kernel.kind == "shrink":
            self._x = torch.randn(tokens, kernel.inner, device=card, dtype=half)
            self._y = torch.empty(kernel.many, tokens, rank, device=card, dtype=torch.float32)
        else:
            self._x = torch.randn(kernel.many, tokens, rank, device=card, dtype=torch.float32)
            self._y = torch.zeros(tokens, sum(kernel.slices), device=card, dtype=half)

    def _call(self, weights: list[Any]) -> None:
        if self._kernel.kind == "shrink":
            self._module._lora_shrink(self._x, weights, self._y, *self._meta, 1.0)
        else:
            self._module._lora_expand(self._x, weights, self._y, *self._meta, 0, True)

    def seconds(self, setting: Setting) -> float:
        """inf where the card cannot run it."""
        torch, plain = self._torch, self._module.get_lora_op_configs
        self._module.get_lora_op_configs = lambda *_, **__: setting
        try:
            for weights in self._layers:  # compiles, and notes the weights' addresses
                self._call(weights)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for weights in self._layers:
                    self._call(weights)
            graph.replay()
            best = float("inf")
            for _ in range(REPLAYS):
                began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                began.record()
                graph.replay()
                ended.record()
                ended.synchronize()
                best = min(best, began.elapsed_time(ended) / 1e3)
            return best / len(self._layers)
        except Exception as problem:  # more shared memory than there is, or the like
            say(f"{setting}: {type(problem).__name__}")
            return float("inf")
        finally:
            self._module.get_lora_op_configs = plain


def search(
    kind: str, setting: Setting, seconds: Callable[[Setting], float], fits: Callable[[Setting], bool]
) -> tuple[Setting, float, float]:
    """The fastest setting met, its seconds, and those of the one it began with."""
    first = fastest = seconds(setting)
    seen = {tuple(setting.items())}
    for _ in range(2):
        before = setting
        for name, values in WAYS[kind].items():
            for value in values:
                other = {**setting, name: value}
                if tuple(other.items()) in seen or not fits(other):
                    continue
                seen.add(tuple(other.items()))
                taken = seconds(other)
                if taken < GAIN * fastest:
                    setting, fastest = other, taken
        if setting == before:
            break
    return setting, fastest, first


def table(
    wanted: Sequence[tuple[Kernel, int]], loras: int, rank: int, layers: int, until: float
) -> Iterator[tuple[Kernel, int, Setting, float, float]]:
    """Each kernel and number of tokens with its setting, seconds of a call, and those of vLLM's default."""
    from vllm.lora.ops.triton_ops.utils import get_lora_op_configs

    for kernel, tokens in wanted:
        size = kernel.inner or max(kernel.slices)
        default = get_lora_op_configs(kernel.kind, loras + 1, tokens, size, rank, kernel.many, None)
        if time.monotonic() > until:
            yield kernel, tokens, dict(default), 0.0, 0.0
            continue
        timer = Timer(kernel, tokens, loras, rank, layers)

        def fits(setting: Setting, size: int = size, kernel: Kernel = kernel) -> bool:
            block = (setting["block_k"] or 1) * (setting.get("split_k") or 1)
            return kernel.kind == "expand" or block <= size

        setting, fastest, first = search(kernel.kind, dict(default), timer.seconds, fits)
        yield kernel, tokens, setting, fastest, first


def every_number(table: dict[str, Any]) -> dict[str, Any]:
    """The table with settings for any number of slices: those of the next smaller one that was timed."""
    filled = {}
    for loras, timed in table.items():
        numbers = sorted(map(int, timed))
        nearest = {
            n: max((m for m in numbers if m <= n), default=numbers[0]) for n in range(1, MOST_SLICES + 1)
        }
        filled[loras] = {str(n): timed[str(m)] for n, m in nearest.items()}
    return filled


@click.command()
@click.option("--shape", default="8b", show_default=True, help="Of bench/shapes, or a model's folder.")
@click.option("--rank", default=16, show_default=True)
@click.option("--loras", default=8, show_default=True, help="In one batch: engine.max_loras.")
@click.option("--minutes", default=4.0, show_default=True, help="What is left then keeps vLLM's default.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def command(shape: str, rank: int, loras: int, minutes: float, out: Path) -> None:
    """Launch settings of vLLM's LoRA kernels for this card."""
    import torch

    if not torch.cuda.is_available():
        raise click.ClickException("there is no card that torch can see")
    file = Path(shape, "config.json") if Path(shape).is_dir() else SHAPES / f"{shape}.json"
    if not file.is_file():
        raise click.UsageError(f"no shape {shape} and no such folder")
    config = json.loads(file.read_text())
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    wanted = [(kernel, tokens) for tokens in TOKENS for kernel in kernels(config)]
    tables: dict[str, Any] = {}
    gained: dict[int, list[float]] = {}
    until = time.monotonic() + 60 * minutes
    found = table(wanted, loras, rank, config["num_hidden_layers"], until)
    for kernel, tokens, setting, fastest, first in found:
        say(f"{kernel} × {tokens}: {1e6 * first:.1f} → {1e6 * fastest:.1f} µs with {setting}")
        sizes = (kernel.inner, rank) if kernel.kind == "shrink" else (rank, max(kernel.slices))
        at = tables.setdefault(kernel.kind, {})
        for key in (loras + 1, kernel.many, tokens, sizes[0]):
            at = at.setdefault(str(key), {})
        at[str(sizes[1])] = setting
        before, now = gained.setdefault(tokens, [0.0, 0.0])
        gained[tokens] = [before + first, now + fastest]
    card = torch.cuda.get_device_name().replace(" ", "_").replace("-", "_")
    out.mkdir(parents=True, exist_ok=True)
    for kind, name in (("shrink", "SHRINK"), ("expand", "EXPAND_TRUE")):
        (out / f"{card}_{name}.json").write_text(json.dumps(every_number(tables[kind])) + "\n")
    for tokens, (before, now) in sorted(gained.items()):
        click.echo(f"{tokens} tokens: {1e6 * before:.1f} µs a layer before, {1e6 * now:.1f} now")
