"""Paths to files, and files to parts that one child can read."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.errors import SourceMissing

PART_BYTES = 8 << 20  # of a JSONL file that is read at once


class Ticket(NamedTuple):
    """What an attached file is waited for under: its row, and how often it was attached."""

    row: str  # id in the table files
    attempt: int  # a later one makes what this one reads worthless


class Source(NamedTuple):
    """A file to ingest."""

    path: Path  # absolute
    name: str  # relative to the folder that was given, with forward slashes
    upload: str = ""  # id of the uploaded file whose bytes these are
    ticket: Ticket | None = None  # of an uploaded file only

    @property
    def identity(self) -> str:
        """What tells it from the store's other files: its path, or which upload it is."""
        return attached(self.upload) if self.upload else printable(self.path)


class Part(NamedTuple):
    """Bytes for one reading."""

    data: bytes
    first_line: int  # 1-based; other than 1 only in JSONL


def find(paths: Sequence[Path]) -> list[Source]:
    """Files under the paths, sorted, each once; hidden ones are left out unless named themselves.

    Raises `SourceMissing` for a path that does not exist.
    """
    found: dict[Path, Source] = {}
    for given in paths:
        path = Path(os.path.abspath(given))
        if path.is_dir():
            for file in _under(path):
                found.setdefault(file, Source(file, printable(file.relative_to(path))))
        elif path.exists():
            found.setdefault(path, Source(path, printable(Path(path.name))))
        else:
            raise SourceMissing(f"{given} does not exist")
    return sorted(found.values())


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def parts(path: Path) -> Iterator[Part]:
    """The file's bytes: in one part, or, when its rows are JSON, in parts that end with a row."""
    with path.open("rb") as file:
        data = file.read(PART_BYTES)
        if not data.lstrip().startswith(b"{"):
            yield Part(data + file.read(), 1)
            return
        line = 1
        while data:
            end = data + file.readline()  # up to the end of the row that was cut
            yield Part(end, line)
            line += end.count(b"\n")
            data = file.read(PART_BYTES)


def _under(folder: Path) -> Iterable[Path]:
    def refuse(error: OSError) -> None:
        raise SourceMissing(f"{error.filename} cannot be listed: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            if path.is_file() or not path.exists():  # a pipe would block; a broken link is to be named
                yield path


def attached(upload: str) -> str:
    """The source of an uploaded file; no absolute path looks like it."""
    return f"file:{upload}"


def printable(path: Path) -> str:
    """The path with forward slashes, whatever bytes its name is made of."""
    return os.fsencode(path.as_posix()).decode("utf-8", errors="replace")
