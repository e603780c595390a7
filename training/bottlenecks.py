"""Bottleneck adapters of a language model: built in as hooks, saved as one file, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.errors import BaseRefused
from training.networks import Bottleneck, behind

FILE = "weights.safetensors"


def insert(model: Any, width: int) -> Any:
    """The model with `adapters`, one after each block, to be learned alone. Raises BaseRefused."""
    blocks = getattr(getattr(model, "model", None), "layers", None)
    if blocks is None or width < 1:
        raise BaseRefused("bottleneck adapters need a decoder with model.layers, and a width of 1 or more")
    model.requires_grad_(False)
    model.adapters = nn.ModuleList(Bottleneck(model.config.hidden_size, width) for _ in blocks)
    for block, adapter in zip(blocks, model.adapters, strict=True):
        block.register_forward_hook(behind(adapter))
    return model


def save(model: Any, folder: Path) -> None:
    """`adapters.N.down|up.weight|bias` in float32."""
    from safetensors.torch import save_file

    state = {
        f"adapters.{name}": one.float().contiguous() for name, one in model.adapters.state_dict().items()
    }
    save_file({name: one.cpu() for name, one in state.items()}, folder / FILE)


def load(model: Any, folder: Path) -> Any:
    """The model with the adapters of a folder in it."""
    from safetensors.torch import load_file

    state = {name.removeprefix("adapters."): one for name, one in load_file(folder / FILE).items()}
    insert(model, len(state["0.down.bias"]))
    with torch.no_grad():
        model.adapters.load_state_dict(state)
    return model
