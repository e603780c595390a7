"""What is written must be on the disk before something that names it is."""

from __future__ import annotations

import os
from pathlib import Path


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
