"""Segment folders: written whole and synced, read only after their digests were checked."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.errors import StoreDamaged
from indexer.keywords import FOLDER, TantivyKeywords
from indexer.records import FileDigest, Segment
from indexer.seams import Ids, Vectors
from indexer.vectors import FILE, FlatVectors

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"


class OpenSegment(NamedTuple):
    """Both legs of one segment, ready to search."""

    vectors: FlatVectors
    keywords: TantivyKeywords


def stores_folder(data: Path, store_id: str) -> Path:
    """Where a store's segments are."""
    return data / "stores" / store_id


def write_segment(
    folder: Path, name: str, ids: Ids, vectors: Vectors, texts: Sequence[str], about: Mapping[str, object]
) -> dict[str, FileDigest]:
    """Write `folder/name` so that after return a power cut cannot take it; digests of its files.

    The folder means nothing until the catalogue names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    index = FlatVectors(vectors.shape[1])
    index.add(ids, vectors)
    (temporary / FILE).write_bytes(index.dumps())
    TantivyKeywords(temporary / FOLDER).add(ids, texts)
    for lock in (temporary / FOLDER).glob(".tantivy-*.lock"):
        lock.unlink()
    files = {
        str(path.relative_to(temporary)): _digest(path)
        for path in sorted(temporary.rglob("*"))
        if path.is_file()
    }
    listing = {path: [file.sha256, file.size_bytes] for path, file in files.items()}
    (temporary / MANIFEST).write_text(json.dumps({**about, "files": listing}, indent=1))
    for path in sorted(temporary.rglob("*"), reverse=True):  # from the inside out
        _sync(path)
    _sync(temporary)
    temporary.rename(folder / name)
    _sync(folder)
    return files


def open_segment(data: Path, segment: Segment, dimension: int) -> OpenSegment:
    """Both legs, every file checked against the catalogue first; raises `StoreDamaged`."""
    folder = stores_folder(data, segment.store_id) / segment.id
    content = b""
    for name, expected in segment.files.items():
        try:
            found = (folder / name).read_bytes()
        except OSError as error:
            raise _damaged(folder / name, "cannot be read") from error
        if len(found) != expected.size_bytes or hashlib.sha256(found).hexdigest() != expected.sha256:
            raise _damaged(folder / name, "is not what was published")
        if name == FILE:
            content = found  # the very bytes that were hashed are the ones that are read
    return OpenSegment(FlatVectors.loads(content, dimension), TantivyKeywords(folder / FOLDER))


def sweep(folder: Path, published: frozenset[str]) -> list[str]:
    """Remove folders no catalogue row names: what an interrupted writer left. Their names."""
    if not folder.is_dir():
        return []
    orphans = [path for path in folder.iterdir() if path.is_dir() and path.name not in published]
    for path in orphans:
        shutil.rmtree(path)
    return sorted(path.name for path in orphans)


def _damaged(path: Path, how: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} {how}: the store cannot be searched; run `fewshot verify`, then ingest into a new store"
    )


def _digest(path: Path) -> FileDigest:
    with path.open("rb") as file:
        return FileDigest(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
