"""Models of a real size with random weights: right for speed, meaningless in what they say.

Written as an ordinary folder of safetensors, so that whatever reads a model (the digest, adapters and their
proof, the engine) meets nothing unusual. The tokenizer is a small real one; rows of the head for ids that it
cannot say as plain text are zero, so that a greedy answer has text in every token.

    python -m bench.gpu.shapes 8b TOKENIZER FOLDER      ahead of a measurement, while something else happens
"""

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).parent.parent / "shapes"
NOT_THE_MODELS = ("config.json", "model.safetensors.index.json")
DEVIATION = 0.02
SEED = 11


def shapes() -> list[str]:
    return sorted(file.stem for file in SHAPES.glob("*.json"))


def write_model(shape: str, tokenizer: Path, folder: Path, device: str = "cpu") -> Path:
    """`folder` with the shape's config, weights in its dtype and the other model's tokenizer; made once."""
    if (folder / "config.json").is_file():
        return folder
    config = json.loads((SHAPES / f"{shape}.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for file in tokenizer.iterdir():
        if file.suffix in (".json", ".jinja", ".model") and file.name not in NOT_THE_MODELS:
            shutil.copyfile(file, folder / file.name)
    shards = list(_shards(config))
    for number, names in enumerate(shards):
        _write(
            folder / f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors",
            names,
            tokenizer,
            config,
            device,
        )
    listed = {
        name: f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        for number, names in enumerate(shards)
        for name in names
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    (folder / "config.json").write_text(json.dumps(config, indent=1))  # last: it says that all is there
    return folder


def _shards(config: dict[str, Any]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Tensor → its sides, a layer a file."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    outer = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    yield outer | (
        {} if config["tie_word_embeddings"] else {"lm_head.weight": (config["vocab_size"], hidden)}
    )
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield {
            f"{at}input_layernorm.weight": (hidden,),
            f"{at}post_attention_layernorm.weight": (hidden,),
            f"{at}self_attn.q_proj.weight": (queries, hidden),
            f"{at}self_attn.k_proj.weight": (keys, hidden),
            f"{at}self_attn.v_proj.weight": (keys, hidden),
            f"{at}self_attn.o_proj.weight": (hidden, queries),
            f"{at}mlp.gate_proj.weight": (inner, hidden),
            f"{at}mlp.up_proj.weight": (inner, hidden),
            f"{at}mlp.down_proj.weight": (hidden, inner),
        }


def _write(
    file: Path, names: dict[str, tuple[int, ...]], tokenizer: Path, config: dict[str, Any], device: str
) -> None:
    import torch
    from safetensors.torch import save_file

    draw = torch.Generator(device).manual_seed(SEED + hash_of(file.name))
    dtype = getattr(torch, config["dtype"])
    into_stream = DEVIATION / math.sqrt(
        2 * config["num_hidden_layers"]
    )  # GPT-2's way to keep it from growing
    tensors = {}
    for name, sides in names.items():
        if len(sides) == 1:
            tensors[name] = torch.ones(sides, dtype=dtype)
            continue
        deviation = into_stream if name.endswith(("o_proj.weight", "down_proj.weight")) else DEVIATION
        drawn = torch.empty(sides, dtype=dtype, device=device).normal_(0.0, deviation, generator=draw)
        if name == "lm_head.weight" or (config["tie_word_embeddings"] and "embed_tokens" in name):
            silent = torch.ones(sides[0], dtype=torch.bool, device=device)
            silent[torch.tensor(sayable(tokenizer, sides[0]), device=device)] = False
            drawn[silent] = 0.0
        tensors[name] = drawn.cpu()
    save_file(tensors, file, metadata={"format": "pt"})


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[:16], "little") % 2**31


def sayable(tokenizer: Path, vocabulary: int) -> Sequence[int]:
    """Ids below `vocabulary` that stand for plain text of their own."""
    from transformers import AutoTokenizer

    reading: Any = AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    special = set(reading.all_special_ids)
    ids = range(min(len(reading), vocabulary))
    texts = reading.batch_decode([[one] for one in ids])
    return [
        one
        for one, text in zip(ids, texts, strict=True)
        if one not in special and text.isascii() and text.isprintable() and text
    ]


def main(shape: str, tokenizer: str, folder: str) -> None:
    import torch

    began = time.monotonic()
    write_model(shape, Path(tokenizer), Path(folder), "cuda" if torch.cuda.is_available() else "cpu")
    print(f"{shape} in {folder} after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
