"""What needs an engine of its own: (IA)³ vectors, bottlenecks, some tensors or all; held against the base."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from server.adapters.checks import names_of, refused
from server.adapters.records import Base, Tensor
from server.adapters.tensor_files import check_finite, read_header
from server.errors import InvalidValue

IA3_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.ia3_l")
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
HEAD, DOWN = "lm_head.weight", "adapters.0.down.weight"
LARGEST = 2**20  # bytes of a config
# Of how a model was saved or is run, not of what it computes.
IDLE = frozenset(
    {"_model_name_or_path", "_name_or_path", "architectures", "attention_dropout", "dtype", "torch_dtype",
     "initializer_range", "pretraining_tp", "transformers_version", "use_cache", "attn_implementation",
     "pad_token_id", "unk_token_id", "bos_token_id", "eos_token_id", "_attn_implementation_autoset",
     "return_dict", "output_hidden_states", "output_attentions", "id2label", "label2id", "problem_type",
     "chunk_size_feed_forward", "is_encoder_decoder"}
)  # fmt: skip


def check_ia3(file: Path, base: Base) -> None:
    """Vectors (out, 1) that scale what a layer gives, or (1, in) what it takes. Raises InvalidValue."""
    tensors = read_header(file)
    for name, tensor in tensors.items():
        found = IA3_KEY.fullmatch(name)
        if found is None:
            raise refused(file, f"{name[:150]!r} is no (IA)³ vector; save it with peft's save_pretrained")
        weight = base.shapes.get(f"{found['module']}.weight")
        if weight is None or len(weight) != 2:
            raise refused(
                file, f"the base has no layer {found['module'][:150]!r}; was it trained on another?"
            )
        if tensor.shape not in ((weight[0], 1), (1, weight[1])):
            raise refused(
                file, f"{name[:150]!r} has the shape {tensor.shape}; the layer takes {(weight[0], 1)} or "
                f"{(1, weight[1])}",
            )  # fmt: skip
    check_finite(file, tensors)


def check_delta(file: Path, base: Base) -> None:
    """Some of the base's tensors, changed. Raises InvalidValue."""
    tensors = read_header(file)
    _check_shapes(file, tensors, base)
    check_finite(file, tensors)


def check_bottleneck(file: Path, base: Base) -> None:
    """`adapters.N.down` (width, hidden) and `.up` (hidden, width) of every layer N. Raises InvalidValue."""
    tensors = read_header(file)
    width = tensors[DOWN].shape[0] if DOWN in tensors and tensors[DOWN].shape else 0
    wanted = {"down.weight": (width, base.hidden), "down.bias": (width,), "up.weight": (base.hidden, width),
              "up.bias": (base.hidden,)}  # fmt: skip
    shapes = {
        f"adapters.{layer}.{name}": shape for layer in range(base.layers) for name, shape in wanted.items()
    }
    for name in sorted({*shapes, *tensors}):
        if name not in tensors or name not in shapes:
            why = "is missing" if name in shapes else "is no tensor of a bottleneck adapter of this base"
            raise refused(file, f"{name[:150]!r} {why}; it has {base.layers} layers")
        if tensors[name].shape != shapes[name]:
            raise refused(file, f"{name!r} has the shape {tensors[name].shape}, not {shapes[name]}")
    check_finite(file, tensors)


def check_full(folder: Path, files: Sequence[str], base: Base) -> None:
    """All tensors of the base, in one file or several, and a config that says the same. Raises InvalidValue.

    Only the tensors are served: config, tokenizer and generation settings stay the base's own.
    """
    found: dict[str, Tensor] = {}
    for name in files:
        tensors = read_header(folder / name)
        if twice := sorted(found.keys() & tensors.keys()):
            raise refused(folder / name, f"{twice[0][:150]!r} is in another file too")
        _check_shapes(folder / name, tensors, base)
        found |= tensors
    tied = bool(base.config.get("tie_word_embeddings"))
    spare = {HEAD} if tied else set()
    if missing := sorted(base.shapes.keys() - found.keys() - spare):
        raise refused(folder / files[0], f"{missing[0][:150]!r} is missing; save the whole model")
    if (folder / CONFIG).is_file():
        _check_config(folder / CONFIG, base)
    for name in files:
        check_finite(folder / name, read_header(folder / name))


def _check_shapes(file: Path, tensors: Mapping[str, Tensor], base: Base) -> None:
    for name, tensor in tensors.items():
        shape = base.shapes.get(name)
        if shape is None and name == HEAD and base.config.get("tie_word_embeddings"):
            raise refused(file, f"the base ties {HEAD} to the embedding; save it tied, without {HEAD}")
        if shape is None:
            raise refused(
                file, f"the base has no {name[:150]!r} (it has {names_of(base.shapes)} …); was it trained on "
                "another?",
            )  # fmt: skip
        if tensor.shape != shape:
            raise refused(file, f"{name[:150]!r} has the shape {tensor.shape}, the base {shape}")


def _check_config(file: Path, base: Base) -> None:
    """Raises InvalidValue where the model would compute something else than the base with these weights."""
    try:
        said = json.loads(file.read_bytes()) if file.stat().st_size <= LARGEST else None
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise refused(file, f"it is not a JSON object of less than {LARGEST} bytes")
    for name in sorted({*said, *base.config} - IDLE):
        ours, theirs = base.config.get(name), said.get(name)
        if not _same(ours, theirs):
            raise InvalidValue(
                f"{CONFIG}: {name[:64]} is {json.dumps(theirs)[:100]}, the base's "
                f"{json.dumps(ours)[:100]}; a full finetune has other weights and nothing else. Serve "
                "another model as engine.model",
                param=f"{CONFIG}.{name[:64]}",
            )


def _same(ours: Any, theirs: Any) -> bool:
    """Left out is as good as none, false or empty, which transformers leaves out when it saves."""
    return ours == theirs or (ours in (None, False, [], {}) and theirs in (None, False, [], {}))
