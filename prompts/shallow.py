"""The first layers of a decoder as an embedder's folder: demos chosen by what the model itself reads in them.

A decoder's last layers turn to the next token; what it makes of the text is plainest about halfway up.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from prompts.errors import PoolError

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
POOLINGS = 2  # mean over the tokens, then the last token's: halves of one vector
_CHUNK = 2**22  # bytes copied at once
_ROOM = "sentence_transformers"


def write_embedder(model: Path, folder: Path, layers: int) -> None:
    """A sentence-transformers folder: the model's first `layers` layers and final norm, mean and last token.

    `model` is a Hugging Face folder with one `model.safetensors`. The chat template stays behind: with it
    every text would be read as a turn. Raises PoolError where the model cannot be cut so.
    """
    config = json.loads((model / "config.json").read_bytes())
    deep, width = config.get("num_hidden_layers", 0), config.get("hidden_size", 0)
    if not 1 <= layers <= deep:
        raise PoolError(f"{model} has {deep} layers: choose from 1 to {deep}")
    if not (model / "model.safetensors").is_file():
        raise PoolError(f"{model} holds no model.safetensors")
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    _copy_tensors(model / "model.safetensors", folder / "model.safetensors", layers)
    for name in TOKENIZER:
        shutil.copyfile(model / name, folder / name)
    _write(folder / "config.json", config | {"num_hidden_layers": layers})
    reading = {"method": "forward", "method_output_name": "last_hidden_state"}
    task = {"transformer_task": "feature-extraction", "modality_config": {"text": reading}}
    _write(folder / "sentence_bert_config.json", task | {"module_output_name": "token_embeddings"})
    pooling = {"embedding_dimension": width, "pooling_mode": ["mean", "lasttoken"], "include_prompt": True}
    _write(folder / "1_Pooling" / "config.json", pooling)
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"{_ROOM}.{kind}"}
        for at, (path, kind) in enumerate(zip(("", "1_Pooling"), kinds, strict=True))
    ]
    _write(folder / "modules.json", modules)  # last: without it the folder is no embedder


def _copy_tensors(source: Path, target: Path, layers: int) -> None:
    """The safetensors file without the layers from `layers` on and without a head that predicts tokens."""
    with source.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
        start, end, kept = 8 + size, 0, {}
        for name, entry in _tensors(header, layers):
            length = entry["data_offsets"][1] - entry["data_offsets"][0]
            kept[name] = entry | {"data_offsets": [end, end + length]}
            end += length
        written = json.dumps({"__metadata__": {"format": "pt"}} | kept).encode()
        written += b" " * (-len(written) % 8)  # tensors begin at a multiple of 8
        with target.open("wb") as out:
            out.write(len(written).to_bytes(8, "little") + written)
            for _, entry in _tensors(header, layers):
                file.seek(start + entry["data_offsets"][0])
                _copy(file, out, entry["data_offsets"][1] - entry["data_offsets"][0])


def _tensors(header: dict[str, Any], layers: int) -> Iterator[tuple[str, Any]]:
    for name, entry in sorted(header.items()):
        _, _, after = name.partition("layers.")
        above = after and int(after.partition(".")[0]) >= layers
        if name != "__metadata__" and not above and not name.startswith("lm_head."):
            yield name, entry


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length:
        piece = source.read(min(length, _CHUNK))
        if not piece:
            raise PoolError("model.safetensors ends before its last tensor")
        target.write(piece)
        length -= len(piece)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
