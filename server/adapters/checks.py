"""Tensors of an adapter, held against the base model: names, shapes, ranks, values."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from server.adapters.folder import CONFIG
from server.adapters.peft_config import PeftConfig
from server.adapters.records import Base, Tensor
from server.adapters.tensor_files import check_finite, read_header
from server.errors import InvalidValue

LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
HEAD_KEY = re.compile(r"base_model\.model\.(score|classifier)\.(?:modules_to_save\.)?(weight|bias)")
VECTORS = "prompt_embeddings"


def check_lora(file: Path, config: PeftConfig, base: Base, *, most_rank: int, head: bool = False) -> int:
    """The largest rank. `head`: a classification head may stand beside the pairs. Raises InvalidValue."""
    tensors = read_header(file)
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = LORA_KEY.fullmatch(name)
        if found is None and not (head and HEAD_KEY.fullmatch(name)):
            raise refused(
                file, f"{name[:150]!r} is no LoRA tensor of peft; save it with peft's save_pretrained"
            )
        if found is not None:
            pairs.setdefault(found["module"], {})[found["side"]] = tensor
    if not pairs:
        raise refused(file, "it holds no LoRA tensors; train with target_modules that the base has")
    patterns = config.said.get("rank_pattern") or {}
    for module, sides in pairs.items():
        _check_pair(file, module, sides, _rank(module, config.length, patterns), base)
    rank = max(sides["A"].shape[0] for sides in pairs.values())
    if rank > most_rank:
        raise InvalidValue(
            f"{CONFIG}: the rank is {rank}, this server takes {most_rank}; train with a lower rank or raise "
            "engine.max_lora_rank",
            param=f"{CONFIG}.r",
        )
    check_finite(file, tensors)
    return rank


def check_vectors(file: Path, length: int | None, base: Base) -> int:
    """A soft prompt: one tensor (tokens, hidden). Its length. Raises InvalidValue."""
    tensors = read_header(file)
    if set(tensors) != {VECTORS}:
        raise refused(file, f"a soft prompt is one tensor {VECTORS!r}; found {names_of(tensors)}")
    shape = tensors[VECTORS].shape
    if len(shape) != 2 or shape[1] != base.hidden:
        raise refused(file, f"the soft prompt has the shape {shape}; the base needs (tokens, {base.hidden})")
    _check_length(shape[0], length)
    check_finite(file, tensors)
    return shape[0]


def check_prefix(file: Path, length: int | None, base: Base, *, block: int) -> int:
    """Keys and values of every layer, as `k` and `v` or as peft stores them. Raises InvalidValue.

    Its length, which must fill whole KV blocks of `block` tokens.
    """
    tensors = read_header(file)
    layout = (base.layers, base.kv_heads, base.head_dim)
    if set(tensors) == {"k", "v"}:
        k, v = tensors["k"].shape, tensors["v"].shape
        fits = len(k) == 4 and k == v and (k[0], k[1], k[3]) == layout
        tokens = k[2] if fits else 0
    elif set(tensors) == {VECTORS}:
        shape = tensors[VECTORS].shape
        fits = len(shape) == 2 and shape[1] == 2 * base.layers * base.kv_heads * base.head_dim
        tokens = shape[0]
    else:
        raise refused(file, f"a prefix is k and v, or {VECTORS!r}; found {names_of(tensors)}")
    if not fits:
        raise refused(
            file,
            f"the prefix does not fit the base's {base.layers} layers of {base.kv_heads} key-value heads of "
            f"{base.head_dim}",
        )
    _check_length(tokens, length)
    if tokens % block:
        raise refused(
            file, f"a prefix of {tokens} tokens does not fill whole KV blocks; train a multiple of {block}"
        )
    check_finite(file, tensors)
    return tokens


def _check_pair(file: Path, module: str, sides: Mapping[str, Tensor], rank: int, base: Base) -> None:
    weight = base.shapes.get(f"{module}.weight")
    if weight is None or len(weight) != 2:
        raise refused(file, f"the base has no layer {module[:150]!r}; was it trained on another model?")
    if set(sides) != {"A", "B"}:
        raise refused(file, f"{module[:150]!r} has half a pair; train it again, or copy it again")
    rows, columns = weight
    if sides["A"].shape != (rank, columns) or sides["B"].shape != (rows, rank):
        raise refused(
            file,
            f"{module[:150]!r} has the shapes {sides['A'].shape} and {sides['B'].shape}; "
            f"rank and base ask for {(rank, columns)} and {(rows, rank)}",
        )


def _rank(module: str, usual: int, patterns: Mapping[str, int]) -> int:
    """peft's rule: the first pattern that ends the module's name at a dot."""
    for pattern, rank in patterns.items():
        if module == pattern or module.endswith(f".{pattern}"):
            return rank
    return usual


def _check_length(tokens: int, said: int | None) -> None:
    if said is not None and tokens != said:
        raise InvalidValue(
            f"{CONFIG}: num_virtual_tokens is {said}, the tensor has {tokens}; save it again",
            param=f"{CONFIG}.num_virtual_tokens",
        )


def names_of(tensors: Iterable[str]) -> str:
    """The first few."""
    return ", ".join(sorted(tensors)[:3])[:150]


def refused(file: Path, why: str) -> InvalidValue:
    """Names the file."""
    return InvalidValue(f"{file.name}: {why}", param=file.name)
