"""Small artefacts in the layout of training-and-adapters.md §2, written without the server's code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from server.adapters.records import Base

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 32, 2, 4, 2, 8
SHAPES = {"q_proj": (HEADS * HEAD_DIM, HIDDEN), "v_proj": (KV_HEADS * HEAD_DIM, HIDDEN)}
BASE = Base(
    name="tiny",
    digest="ba5e" * 16,
    hidden=HIDDEN,
    layers=LAYERS,
    kv_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    shapes={
        f"model.layers.{layer}.self_attn.{name}.weight": shape
        for layer in range(LAYERS)
        for name, shape in SHAPES.items()
    },
)
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj", "v_proj"]}


def lora_tensors(seed: int = 0, rank: int = 4, base: Base = BASE) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    tensors = {}
    for name, (rows, columns) in base.shapes.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{module}.lora_A.weight"] = draw.normal(size=(rank, columns)).astype(np.float32)
        tensors[f"{module}.lora_B.weight"] = draw.normal(size=(rows, rank)).astype(np.float32)
    return tensors


def write_peft(folder: Path, tensors: dict[str, np.ndarray], config: dict[str, Any] = LORA) -> Path:
    """As peft saves: no manifest."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("of peft")
    return folder


def write_lora(folder: Path, seed: int = 0, **config: Any) -> Path:
    return write_peft(folder, lora_tensors(seed, config.get("r", 4)), LORA | config)


def write_soft(folder: Path, tokens: int = 5, seed: int = 0, hidden: int = HIDDEN) -> Path:
    vectors = np.random.default_rng(seed).normal(size=(tokens, hidden)).astype(np.float32)
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": tokens}
    return write_peft(folder, {"prompt_embeddings": vectors}, config)


def write_prefix(folder: Path, tokens: int = 4, seed: int = 0) -> Path:
    wide = LAYERS * 2 * KV_HEADS * HEAD_DIM
    values = np.random.default_rng(seed).normal(size=(tokens, wide)).astype(np.float32)
    config = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": tokens}
    return write_peft(folder, {"prompt_embeddings": values}, config)


def write_manifest(folder: Path, name: str, kind: str, base: str = BASE.digest, **fields: Any) -> Path:
    (folder / "README.md").unlink(missing_ok=True)
    files = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
        for file in folder.iterdir()
    }
    listed = sorted([each, entry["sha256"]] for each, entry in files.items() if each != "report.json")
    said = json.dumps({"base": base, "files": listed, "kind": kind}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(said.encode()).hexdigest()
    manifest = {
        "format": 1,
        "name": name,
        "version": digest[:12],
        "kind": kind,
        "files": files,
        "digest": digest,
        "base": {"name": "tiny", "digest": base},
        "created": 1.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | fields))
    return folder
