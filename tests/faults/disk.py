"""What a power cut would leave of a folder: what was synced, as POSIX promises it and no more.

A file's bytes are safe as they were at its last fsync; a name, new, moved or removed, when its folder was
synced after it. Real file systems keep more than that, and which more is anybody's guess.
"""

import os
import random
from pathlib import Path

from tests.faults.tracer import Call

PAGE = 4096
REMOVES = {"unlink", "unlinkat", "rename", "renameat", "renameat2", "rmdir"}


class Disk:
    """Follows the calls that a process makes under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bytes: dict[int, bytes] = {}  # of files, by inode, as they were last synced
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}  # of folders: inode, whether it is a folder
        self._held: list[int] = []  # descriptors: no inode may be used again for something else
        self._sync_folder(root)
        for path in root.rglob("*"):
            if path.is_dir():
                self._sync_folder(path)
            else:
                self._bytes[path.stat().st_ino] = path.read_bytes()

    def entered(self, call: Call) -> None:
        if call.name in REMOVES and os.path.exists(call.path):
            self._held.append(os.open(call.path, os.O_RDONLY))

    def left(self, call: Call) -> None:
        if call.name not in ("fsync", "fdatasync") or call.result != 0:
            return
        opened = Path(f"/proc/{call.thread}/fd/{call.descriptor}")
        if opened.is_dir():
            self._sync_folder(opened)
        else:
            self._bytes[opened.stat().st_ino] = opened.read_bytes()

    def write(self, to: Path, chance: random.Random | None = None) -> None:
        """Make `to` what the folder would be after a power cut now; with `chance`, and parts of the rest."""
        here = {path.stat().st_ino: path for path in self._root.rglob("*") if path.is_file()}
        self._folder(self._root, self._root.stat().st_ino, to, here, chance)

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def _folder(
        self, path: Path | None, inode: int, to: Path, here: dict[int, Path], chance: random.Random | None
    ) -> None:
        to.mkdir()
        names = self._names.get(inode, {})
        if chance and path and path.is_dir() and chance.random() < 0.5:
            names = _listed(path)
        for name, (child, is_folder) in names.items():
            if is_folder:
                self._folder(path and path / name, child, to / name, here, chance)
            else:
                (to / name).write_bytes(self._content(child, here, chance))

    def _content(self, inode: int, here: dict[int, Path], chance: random.Random | None) -> bytes:
        safe = self._bytes.get(inode, b"")
        if chance is None or inode not in here:
            return safe
        now = here[inode].read_bytes()
        match chance.choice(("safe", "now", "cut", "pages")):
            case "safe":
                return safe
            case "now":
                return now
            case "cut" if now[: len(safe)] == safe:  # appended to: any length in between
                return now[: chance.randint(len(safe), len(now))]
            case _:
                size = chance.choice((len(safe), len(now)))
                pages = range(0, size, PAGE)
                mixed = b"".join(
                    chance.choice((safe, now))[at : at + PAGE].ljust(PAGE, b"\0") for at in pages
                )
                return mixed[:size]

    def _sync_folder(self, path: Path) -> None:
        self._names[path.stat().st_ino] = _listed(path)


def _listed(path: Path) -> dict[str, tuple[int, bool]]:
    with os.scandir(path) as entries:
        return {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
