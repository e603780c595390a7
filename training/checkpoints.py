"""Where a training run stands, on disk: safetensors and JSON, replaced in one rename."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import DataRefused


class Checkpoint(NamedTuple):
    tensors: dict[str, Tensor]
    note: dict[str, Any]  # step, seconds, curve, what the run is


def save(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Written beside `path` and renamed: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".writing")
    save_file(
        {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()},
        scratch,
        metadata={"note": json.dumps(note)},
    )
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(path)


def load(path: Path) -> Checkpoint | None:
    """None when there is none. Raises DataRefused when it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, note)  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as problem:
        raise DataRefused(
            f"the checkpoint {path} is damaged ({problem}): delete it to start anew"
        ) from problem
