"""The vectors of a pool's inputs, kept beside its file so that they are computed once.

Inputs only: embedding the answer with the example, but not with the question, would compare unlike things.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prompts.errors import PoolError
from prompts.records import Demo
from prompts.seams import Embed


def vectors_of(
    demos: Sequence[Demo], digest: str, *, embed: Embed, embedder: str, beside: Path
) -> NDArray[np.float32]:
    """Unit rows of the demos' inputs, shape (n, d), read from the cache when it is of this pool and embedder.

    `beside` is a path without suffix: `.npy` is written first and `.json`, which makes it valid, last.
    """
    wanted = {"pool": digest, "embedder": embedder, "rows": len(demos)}
    array, manifest = beside.with_name(beside.name + ".npy"), beside.with_name(beside.name + ".json")
    if (cached := _read(array, manifest, wanted)) is not None:
        return cached
    vectors = checked(np.asarray(embed([demo.input for demo in demos]), dtype=np.float32), len(demos))
    beside.parent.mkdir(parents=True, exist_ok=True)
    manifest.unlink(missing_ok=True)  # or a crash would leave new vectors under the old manifest
    _replace(array, vectors)
    _replace(manifest, wanted)
    return vectors


def checked(vectors: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """The vectors, if they are `rows` unit rows; raises PoolError otherwise."""
    if vectors.ndim != 2 or len(vectors) != rows:
        raise PoolError(f"the embedder gave the shape {vectors.shape} for {rows} texts")
    if rows and not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        raise PoolError("the embedder must give unit vectors: divide each row by its length")
    return vectors


def evened(embed: Embed, parts: int) -> Embed:
    """The same vectors with their `parts` equal stretches brought to one length, and unit rows again.

    For embedders that join several poolings of unlike lengths, so that each counts alike.
    """

    def even(texts: Sequence[str], /) -> NDArray[np.float32]:
        rows = np.asarray(embed(texts), dtype=np.float32)
        if rows.shape[1] % parts:
            raise PoolError(f"a vector of {rows.shape[1]} numbers is not made of {parts} equal poolings")
        stretches = rows.reshape(len(rows), parts, -1)
        lengths = np.maximum(np.linalg.norm(stretches, axis=2, keepdims=True), np.finfo(np.float32).tiny)
        even_rows: NDArray[np.float32] = (stretches / (lengths * np.float32(parts**0.5))).reshape(rows.shape)
        return even_rows

    return embed if parts == 1 else even


def _read(array: Path, manifest: Path, wanted: dict[str, object]) -> NDArray[np.float32] | None:
    if not (manifest.is_file() and array.is_file()):
        return None
    try:
        if json.loads(manifest.read_text()) != wanted:
            return None
        vectors: NDArray[np.float32] = np.load(array, allow_pickle=False)
        return checked(vectors, int(str(wanted["rows"])))
    except (ValueError, EOFError, PoolError):
        return None  # a damaged cache is only a cache: compute again


def _replace(path: Path, content: NDArray[np.float32] | dict[str, object]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else saved(content))
    draft.replace(path)


def saved(vectors: NDArray[np.float32]) -> bytes:
    """The content of an .npy file. `np.save` into a file does not notice that a disk is full."""
    held = io.BytesIO()
    np.save(held, vectors, allow_pickle=False)
    return held.getvalue()
