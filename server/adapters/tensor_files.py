"""Safetensors files without a tensor library: the header, and whether every value is finite.

The format: 8 bytes of length, that many bytes of JSON, then the tensors without holes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.adapters.records import Tensor
from server.errors import InvalidValue

WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F32", "F16", "BF16")
LARGEST_HEADER = 16 * 2**20  # bytes; a model of a thousand layers has 2
MOST_TENSORS = 100_000
PART = 2**22  # values looked at together


def read_header(file: Path) -> dict[str, Tensor]:
    """Name → tensor. Raises InvalidValue naming the file for anything that is not exactly the format."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or not 2 <= length <= min(LARGEST_HEADER, size - 8):
            raise _broken(file, f"its header claims {length} bytes of a file of {size}")
        try:
            entries = json.loads(stream.read(length), object_pairs_hook=_once)
        except (ValueError, RecursionError):
            raise _broken(file, "its header is not JSON") from None
    if not isinstance(entries, dict):
        raise _broken(file, "its header is no JSON object")
    entries.pop("__metadata__", None)
    if not entries or len(entries) > MOST_TENSORS:
        raise _broken(file, f"it holds {len(entries)} tensors")
    tensors = {name: _tensor(file, name, entry, 8 + length) for name, entry in entries.items()}
    end = 8 + length
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != end:
            raise _broken(file, f"the tensor {name[:100]!r} overlaps another or leaves a hole")
        end = tensor.stop
    if end != size:
        raise _broken(file, f"its tensors end at byte {end} of {size}: it is cut short or has a tail")
    return tensors


def check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises InvalidValue naming the first tensor that holds NaN or infinity, or is no float."""
    data = np.memmap(file, dtype=np.uint8, mode="r")
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise InvalidValue(
                f"{file.name}: {name[:100]!r} is {tensor.dtype}; store it as one of {', '.join(FLOATS)}",
                param=file.name,
            )
        bits: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
        bits = data[tensor.start : tensor.stop].view(np.uint32 if tensor.dtype == "F32" else np.uint16)
        # All bits of the exponent set: infinity or not a number.
        mask = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[tensor.dtype]
        for start in range(0, len(bits), PART):
            if ((bits[start : start + PART] & mask) == mask).any():
                raise InvalidValue(
                    f"{file.name}: {name[:100]!r} holds NaN or infinity; the training diverged, so train it "
                    "again with a lower learning rate",
                    param=file.name,
                )


def read_floats(file: Path, tensor: Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """The tensor as float32, in its shape."""
    data = np.memmap(file, dtype=np.uint8, mode="r")[tensor.start : tensor.stop]
    if tensor.dtype == "BF16":
        wide = data.view(np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(tensor.shape)
    kind = np.float32 if tensor.dtype == "F32" else np.float16
    return data.view(kind).astype(np.float32).reshape(tensor.shape)


def _tensor(file: Path, name: str, entry: Any, offset: int) -> Tensor:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
        size = WIDTH[dtype]
    except (KeyError, TypeError, ValueError):
        raise _broken(file, f"the entry of {name[:100]!r} is not a tensor") from None
    if not whole or len(shape) > 8:
        raise _broken(file, f"{name[:100]!r} has no sensible shape")
    for number in shape:
        size *= number
    if stop - start != size or size == 0:
        raise _broken(file, f"{name[:100]!r} is {stop - start} bytes, its shape says {size}")
    return Tensor(dtype, shape, start + offset, stop + offset)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _broken(file: Path, why: str) -> InvalidValue:
    return InvalidValue(
        f"{file.name} is no safetensors file: {why}. Save it again with safetensors, or copy it again",
        param=file.name,
    )
