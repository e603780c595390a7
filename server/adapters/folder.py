"""A folder of files that somebody else wrote, read without following anything out of it."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from server.adapters import manifest
from server.errors import InvalidValue

WEIGHTS = ("adapter_model.safetensors", "weights.safetensors")
CONFIG = "adapter_config.json"
KEPT = frozenset({manifest.NAME, manifest.REPORT, CONFIG, *WEIGHTS})
LEFT_OUT = frozenset({"README.md", "training_args.json", "trainer_state.json"})  # peft and trl write them
SHARDS = ("model.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
CODE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".ckpt", ".skops", ".py")
MOST_FILES = 256
BLOCK = 2**20


def check_file_name(name: str) -> None:
    """Raises InvalidValue for a name that is a path, or of a file that no adapter has."""
    if name != os.path.basename(name) or name in (".", "..") or "\\" in name or "\0" in name:
        raise InvalidValue(
            f"{name[:100]!r} is no plain file name; an adapter's folder has no folders in it", param="file"
        )
    if name.endswith(CODE):
        raise InvalidValue(
            f"{name[:100]} may run code when it is read, so it is not taken, even beside safetensors; save "
            "the weights with safetensors and remove this file",
            param=name[:100],
        )
    if name not in KEPT | LEFT_OUT and name not in SHARDS + TOKENIZER and not _is_shard(name):
        raise InvalidValue(
            f"{name[:100]!r} is no file of an adapter; there may be {', '.join(sorted(KEPT))}",
            param=name[:100],
        )


def file_names(folder: Path) -> list[str]:
    """The files to take. Raises InvalidValue for a link, a folder, or a file that no adapter has."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            raise InvalidValue("there is no such folder of an adapter; check the name", param="inbox")
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as problem:
        raise InvalidValue(f"the folder cannot be read: {problem.strerror}", param="inbox") from None
    if len(found) > MOST_FILES:
        raise InvalidValue(f"the folder holds {len(found)} files; an adapter has a handful", param="inbox")
    for entry in found:
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            what = "a symbolic link" if entry.is_symlink() else "no regular file"
            raise InvalidValue(
                f"{entry.name[:100]!r} is {what}; copy the files themselves into the folder",
                param=entry.name[:100],
            )
        check_file_name(entry.name)
    return [entry.name for entry in found if entry.name not in LEFT_OUT]


@contextmanager
def opened(folder: Path, name: str) -> Iterator[BinaryIO]:
    """The file for reading; a link that took its place meanwhile is refused. Raises InvalidValue."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise InvalidValue(f"{name[:100]!r} cannot be read: {problem.strerror}", param=name[:100]) from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidValue(f"{name[:100]!r} is no regular file", param=name[:100])
        yield stream


def write_copy(stream: BinaryIO, to: Path, *, most_bytes: int) -> str:
    """Copy to a new file, on disk when this returns; its SHA-256. Raises InvalidValue beyond `most_bytes`."""
    digest, size = hashlib.sha256(), 0
    with to.open("xb") as copy:
        while block := stream.read(BLOCK):
            size += len(block)
            if size > most_bytes:
                raise InvalidValue(
                    f"{to.name}: an adapter may have {most_bytes} bytes here; raise adapters.bytes for more",
                    param=to.name,
                )
            digest.update(block)
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_files(names: Iterable[str]) -> list[str]:
    """Those of a whole model's weights."""
    return sorted(name for name in names if name == SHARDS[0] or _is_shard(name))


def _is_shard(name: str) -> bool:
    return name.startswith("model-") and name.endswith(".safetensors")
