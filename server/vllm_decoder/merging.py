"""A model folder with other weights than the base: of a full finetune, of some tensors, of (IA)³ vectors.

Config, tokenizer and generation settings are the base's own. What is changed is kept in float32, so that
scaling the weights here is what scaling the activations was in training, up to one rounding.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from server.loadables import Loadable
from server.vllm_decoder.rows import link

ABANDONED_SECONDS = 3600.0
ADAPTER, TENSORS = "adapter_model.safetensors", "weights.safetensors"
LISTED = "model.safetensors.index.json"  # where a base's tensors are; not where ours will be
Change = Callable[[Any], Any]  # tensor of the base → the tensor to serve


@contextmanager
def merged(base: Path, adapter: Loadable, cache: Path) -> Iterator[Path]:
    """The folder, under `cache`, for as long as an engine reads it.

    Raises OSError, ValueError for a kind that is no other weights.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob("merged-*"):  # by a server that was killed; a young one may be another's
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="merged-", dir=cache) as folder:
        _write(base, adapter, Path(folder))
        yield Path(folder)


def _write(base: Path, adapter: Loadable, folder: Path) -> None:
    weights = sorted(base.glob("*.safetensors"))
    for file in sorted(base.iterdir()):
        if file.is_file() and file not in weights and file.name != LISTED:
            link(file, folder / file.name)
    if adapter.kind == "full":
        for file in sorted(adapter.folder.glob("model*.safetensors")):
            link(file, folder / file.name)
    elif adapter.kind == "bottleneck":  # stands beside the weights, which stay
        for file in weights:
            link(file, folder / file.name)
    else:
        changes = _changes(adapter)
        for file in weights:
            if not _rewrite(file, folder / file.name, changes):
                link(file, folder / file.name)


def _changes(adapter: Loadable) -> Mapping[str, Change]:
    """What becomes of the base's tensors, by their names."""
    from safetensors.torch import load_file

    if adapter.kind == "delta":
        new = load_file(adapter.folder / TENSORS)
        return {name: partial(_replaced, tensor) for name, tensor in new.items()}
    if adapter.kind != "ia3":
        raise ValueError(f"a {adapter.kind} is not merged")
    changes: dict[str, Change] = {}
    for name, vector in load_file(adapter.folder / ADAPTER).items():
        module = name.removeprefix("base_model.model.").removesuffix(".ia3_l")
        # (out, 1) scales what the layer gives, its bias too; (1, in) what it takes: both are W ⊙ l.
        changes[f"{module}.weight"] = partial(_scaled, vector)
        if vector.shape[1] == 1:
            changes[f"{module}.bias"] = partial(_scaled, vector[:, 0])
    return changes


def _replaced(new: Any, old: Any) -> Any:
    return new


def _scaled(by: Any, tensor: Any) -> Any:
    return tensor.float() * by.float()


def _rewrite(source: Path, target: Path, changes: Mapping[str, Change]) -> bool:
    """Whether `source` holds anything that changes; then `target` is it, changed."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(str(source), framework="pt") as tensors:
        names = list(tensors.keys())
        if not changes.keys() & set(names):
            return False
        new = {
            name: changes[name](tensors.get_tensor(name)) if name in changes else tensors.get_tensor(name)
            for name in names
        }
    save_file({name: tensor.contiguous() for name, tensor in new.items()}, target, metadata={"format": "pt"})
    return True


def weight_bytes(folder: Path, width: int) -> int:
    """Memory that the weights take where each number has `width` bytes."""
    numbers = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for side in tensor["shape"]:
                    size *= side
                numbers += size
    return numbers * width
