"""What is written must be on the disk before something that names it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_names(folder: Path, top: Path) -> None:
    """Make durable the names in a folder, and in all above it up to `top`.

    Of those above, somebody who died before he could sync them may have made any.
    """
    sync(folder)
    while folder != top:
        folder = folder.parent
        sync(folder)


def make_folder(path: Path) -> None:
    """The folder, and those above it that are missing; their names are durable."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """The array's bytes as a file, without a copy of a contiguous one. Raises OSError when they do not fit.

    Not `ndarray.tofile`: it lets go of what the C library still has in a buffer without asking whether it
    could be written, so the last 4 KiB of a file, or all of a small one, may be missing and nobody is told.
    """
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    with path.open("wb", buffering=0) as file:
        while content:
            content = content[file.write(content) :]
