"""The model that adapters must fit, read from its folder without loading a weight."""

import hashlib
import json
from pathlib import Path
from typing import Any

from server.adapters.records import Base
from server.adapters.tensor_files import read_header
from server.errors import InvalidValue
from server.models import served_name

# What decides the model. `training` hashes the same files the same way; a test holds the two together.
DECISIVE = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json")


def base_digest(folder: Path) -> str:
    """SHA-256 over names and contents of config, tokenizer and weights. Reads them all."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in DECISIVE for path in folder.glob(pattern)}):
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def read_base(folder: Path) -> Base:
    """Raises InvalidValue when the folder holds no safetensors weights, as a hub id would."""
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not weights or not (folder / "config.json").is_file():
        raise InvalidValue(
            "adapters need engine.model to be a folder with safetensors weights; download the model into a "
            "folder and name that",
            param="engine.model",
        )
    whole: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = whole.get("text_config", whole)
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    return Base(
        name=served_name(str(folder)),
        digest=base_digest(folder),
        hidden=hidden,
        layers=int(config["num_hidden_layers"]),
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        shapes={name: tensor.shape for file in weights for name, tensor in read_header(file).items()},
        config=whole,
    )
