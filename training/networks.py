"""A backbone with a head, one builder per way of training it. What has requires_grad is what is learned.

Every network answers logits (texts, labels) for (states or ids, mask), and says from which block it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.backbone import Backbone, pooled
from training.errors import BaseRefused, ExtraMissing
from training.records import Pooling

METHODS = ("output-layers", "last-n", "all", "lora", "ia3", "soft-prompt", "prefix", "bottleneck")


class Head(nn.Module):
    """The output layers: hidden → hidden → labels, as the article's two last layers."""

    def __init__(self, hidden: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(hidden, labels)

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.last(self.dropout(torch.relu(self.first(rows))))
        return out


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) after a block, identity at the start (Houlsby et al. 2019, arXiv 1902.00751)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = states + self.up(nn.functional.gelu(self.down(states)))
        return out


def behind(adapter: nn.Module) -> Callable[[nn.Module, Any, Any], Any]:
    """A hook that puts the adapter behind what a block gives."""

    def hook(module: nn.Module, args: Any, out: Any) -> Any:
        return (adapter(out[0]), *out[1:]) if isinstance(out, tuple) else adapter(out)

    return hook


@dataclass(slots=True)
class Network:
    """What the trainer needs: learned tensors by name, a forward pass, from which block it starts."""

    backbone: Backbone
    head: nn.Module
    pooling: Pooling
    start: int  # first block that is run in training; below it states are computed once
    learned: Mapping[str, nn.Parameter]  # of the body
    body: Callable[[Tensor, Tensor], Tensor]  # (entering states or ids, mask) → last states
    virtual_tokens: int = 0  # put before every text
    close: Callable[[], None] = lambda: None  # takes what was built into the backbone out again

    def logits(self, entering: Tensor, mask: Tensor) -> Tensor:
        """(texts, labels), float32."""
        states = self.body(entering, mask)
        extra = states.shape[1] - mask.shape[1]
        if extra > 0:  # virtual tokens stand first and are not pooled
            states = states[:, extra:]
        with torch.autocast(states.device.type, enabled=False):
            out: Tensor = self.head(pooled(states, mask, self.pooling))
        return out

    def named(self) -> dict[str, nn.Parameter]:
        """Everything that is learned, the head included."""
        return {**self.learned, **{f"head.{name}": one for name, one in self.head.named_parameters()}}

    @property
    def trainable(self) -> int:
        return sum(one.numel() for one in self.named().values())


def build(
    backbone: Backbone,
    method: str,
    labels: int,
    *,
    pooling: Pooling,
    dropout: float,
    options: Mapping[str, int],
) -> Network:
    """A network for `method` (one of METHODS). `options`: n (blocks), rank, width, tokens.

    Call `close()` when done: the backbone is shared by all rungs. Raises BaseRefused for options that do not
    fit, ExtraMissing without peft.
    """
    backbone.model.requires_grad_(False)
    head = Head(backbone.hidden, labels, dropout).to(backbone.device)
    if method in ("output-layers", "last-n", "all"):
        return _blocks(backbone, head, method, pooling, options.get("n", 0))
    if method == "bottleneck":
        return _bottleneck(backbone, head, pooling, options.get("width", 24))
    if method in ("lora", "ia3", "soft-prompt", "prefix"):
        return _peft(backbone, head, method, pooling, options)
    raise BaseRefused(f"no method {method!r}: choose one of {', '.join(METHODS)}")


def _blocks(backbone: Backbone, head: nn.Module, method: str, pooling: Pooling, n: int) -> Network:
    depth = backbone.depth
    if method == "last-n" and not 1 <= n <= depth:
        raise BaseRefused(f"{backbone.name} has {depth} blocks: train the last 1 to {depth}, not {n}")
    count = {"output-layers": 0, "all": depth, "last-n": n}[method]
    start = depth - count
    for block in list(backbone.blocks)[start:]:
        block.requires_grad_(True)
    if method == "all":
        backbone.model.requires_grad_(True)
    elif count and (norm := getattr(backbone.model, "norm", None)) is not None:
        norm.requires_grad_(True)  # the final norm belongs to the last block
    for name, one in backbone.model.named_parameters():
        if name.startswith("pooler."):  # BERT's own pooler is not on our path
            one.requires_grad_(False)
    learned = {name: one for name, one in backbone.model.named_parameters() if one.requires_grad}
    if method == "all":
        return Network(backbone, head, pooling, 0, learned, backbone.states, close=_frozen(backbone))

    def run(states: Tensor, mask: Tensor) -> Tensor:
        with backbone.above(start) as upper:  # only here: inputs are prepared by the whole model
            out: Tensor = upper(states, mask)
            return out

    return Network(backbone, head, pooling, start, learned, run, close=_frozen(backbone))


def _bottleneck(backbone: Backbone, head: nn.Module, pooling: Pooling, width: int) -> Network:
    if width < 1:
        raise BaseRefused(f"an adapter's width is 1 or more, not {width}")
    adapters = nn.ModuleList(Bottleneck(backbone.hidden, width) for _ in range(backbone.depth))
    adapters.to(backbone.device)

    handles = [
        block.register_forward_hook(behind(adapter))
        for block, adapter in zip(backbone.blocks, adapters, strict=True)
    ]

    def close() -> None:
        for handle in handles:
            handle.remove()

    learned = {f"adapters.{name}": one for name, one in adapters.named_parameters()}
    return Network(backbone, head, pooling, 0, learned, backbone.states, close=close)


def _peft(
    backbone: Backbone, head: nn.Module, method: str, pooling: Pooling, options: Mapping[str, int]
) -> Network:
    try:
        import peft
    except ImportError as problem:
        raise ExtraMissing(f"{method} needs peft: pip install 'fewshot[training]'") from problem
    task = peft.TaskType.FEATURE_EXTRACTION
    rank, tokens = options.get("rank", 8), options.get("tokens", 20)
    config: Any
    if method == "lora":
        config = peft.LoraConfig(
            task_type=task, r=rank, lora_alpha=2 * rank, target_modules=_linears(backbone), bias="none"
        )
    elif method == "ia3":
        inner = _linears(backbone)
        config = peft.IA3Config(
            task_type=task, target_modules=inner, feedforward_modules=[m for m in inner if m in _FEEDFORWARD]
        )
    elif method == "soft-prompt":
        config = peft.PromptTuningConfig(
            task_type=task, num_virtual_tokens=tokens, prompt_tuning_init="SAMPLE_VOCAB"
        )
    else:
        config = peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=tokens)
    model = peft.get_peft_model(backbone.model, config)

    def body(ids: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return out

    def close() -> None:
        if method in ("lora", "ia3"):
            backbone.model = model.unload()
        backbone.model.requires_grad_(False)

    learned = {name: one for name, one in model.named_parameters() if one.requires_grad}
    virtual = tokens if method in ("soft-prompt", "prefix") else 0
    return Network(backbone, head, pooling, 0, learned, body, virtual, close)


_FEEDFORWARD = ("down_proj", "output.dense", "fc2", "lin2")


def _linears(backbone: Backbone) -> list[str]:
    """The names of the linear layers inside a block, as peft matches them (by their ends)."""
    return sorted(
        name for name, module in backbone.blocks[0].named_modules() if isinstance(module, nn.Linear)
    )


def _frozen(backbone: Backbone) -> Callable[[], None]:
    def close() -> None:
        backbone.model.requires_grad_(False)

    return close
