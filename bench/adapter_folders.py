"""Random adapters for a model, each changing what it says: folders as peft writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from server.adapters.base_model import read_base
from server.adapters.records import Base
from server.adapters.tensor_files import read_floats, read_header

RANK = 8
MODULES = ("q_proj", "v_proj")


def write_folders(model: Path, inbox: Path, *, turning: int) -> None:
    """lora-0 … 2, soft-0 … 2, prefix-0, and `turning` LoRAs turn-0 …"""
    base = read_base(model)
    names = [*(f"lora-{number}" for number in range(3)), *(f"turn-{number}" for number in range(turning))]
    for seed, name in enumerate(names):
        tensors = _lora(base, seed)
        config = {"r": RANK, "lora_alpha": 2 * RANK, "bias": "none", "target_modules": list(MODULES)}
        _write(inbox / name, tensors, peft_type="LORA", **config)
    embedding = _embedding(model)
    for number in range(3):
        draw = np.random.default_rng(100 + number)
        rows = embedding[draw.integers(100, len(embedding), size=8 + number)].astype(np.float32)
        _write(
            inbox / f"soft-{number}",
            {"prompt_embeddings": np.ascontiguousarray(rows)},
            peft_type="PROMPT_TUNING",
            num_virtual_tokens=len(rows),
        )
    shape = (32, 2 * base.layers * base.kv_heads * base.head_dim)
    values = np.random.default_rng(200).normal(0, 0.5, size=shape).astype(np.float32)
    tensors = {"prompt_embeddings": values}
    _write(inbox / "prefix-0", tensors, peft_type="PREFIX_TUNING", num_virtual_tokens=32)


def _lora(base: Base, seed: int) -> "dict[str, np.ndarray[Any, Any]]":
    draw = np.random.default_rng(seed)
    tensors = {}
    for name, shape in base.shapes.items():
        module = name.removesuffix(".weight")
        if module.endswith(MODULES):
            rows, columns = shape
            a = draw.normal(size=(RANK, columns)) / np.sqrt(columns)
            b = draw.normal(0, 0.1, size=(rows, RANK))
            tensors[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    return tensors


def _embedding(model: Path) -> "np.ndarray[Any, Any]":
    for file in sorted(model.glob("*.safetensors")):
        for name, tensor in read_header(file).items():
            if name.endswith("embed_tokens.weight"):
                return read_floats(file, tensor)
    raise FileNotFoundError(f"no embedding in {model}")


def _write(folder: Path, tensors: "dict[str, np.ndarray[Any, Any]]", **config: Any) -> None:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
