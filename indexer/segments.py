"""Segment folders: written whole and synced, read only after their digests were checked."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

from indexer.durability import sync, sync_names
from indexer.errors import StoreDamaged
from indexer.keywords import FOLDER, TantivyKeywords
from indexer.machine import memory_bytes
from indexer.records import FileDigest, Segment
from indexer.seams import Ids, Vectors
from indexer.vectors import INDEX, StoredVectors, choose, describe, discard, is_rows, read, wanted, write

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
_SYNCS = 8  # files flushed at once
LARGE_BYTES = 16 << 20  # rows beyond this are not hashed before a search may read them


class OpenSegment(NamedTuple):
    """Both legs of one segment, ready to search."""

    vectors: StoredVectors
    keywords: TantivyKeywords


def stores_folder(data: Path, store_id: str) -> Path:
    """Where a store's segments are."""
    return data / "stores" / store_id


def write_segment(
    folder: Path, name: str, ids: Ids, vectors: Vectors, texts: Sequence[str], about: Mapping[str, object]
) -> dict[str, FileDigest]:
    """Write `folder/name` so that after return a power cut cannot take it; digests of its files.

    `about["index"]`, if there, is what the store's owner wants of the vector index; raises
    `IndexOptionRefused`. The folder means nothing until the catalogue names it.
    """
    asked = wanted(cast(Mapping[str, object], about.get("index", {})))
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    choice = choose(len(ids), vectors.shape[1], asked, memory_bytes())
    write(temporary, ids, vectors, choice, asked)
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
    inside = sorted(temporary.rglob("*"), reverse=True)
    with ThreadPoolExecutor(_SYNCS) as together:  # a journalling file system commits them in one go
        list(together.map(sync, (path for path in inside if path.is_file())))
    for path in [path for path in inside if path.is_dir()] + [temporary]:  # from the inside out
        sync(path)
    temporary.rename(folder / name)
    sync_names(folder, folder.parents[1])  # the store's own folder may be as new
    return files


def open_segment(data: Path, segment: Segment, dimension: int, thorough: bool = False) -> OpenSegment:
    """Both legs, every file checked against the catalogue first; raises `StoreDamaged`.

    Of large arrays of rows only the size is checked, unless `thorough`: no parser reads them, and a
    search should not wait for gigabytes to be hashed.
    """
    folder = stores_folder(data, segment.store_id) / segment.id
    contents: dict[str, bytes] = {}
    for name, expected in segment.files.items():
        try:
            if is_rows(name) and expected.size_bytes > LARGE_BYTES:
                found = _digest(folder / name, thorough)
                if found != expected and (thorough or found.size_bytes != expected.size_bytes):
                    raise _damaged(folder / name, "is not what was published")
                continue
            content = (folder / name).read_bytes()
        except OSError as error:
            raise _damaged(folder / name, "cannot be read") from error
        if len(content) != expected.size_bytes or hashlib.sha256(content).hexdigest() != expected.sha256:
            raise _damaged(folder / name, "is not what was published")
        if Path(name).parent == Path():
            contents[name] = content  # the very bytes that were hashed are the ones that are read
    return OpenSegment(read(folder, contents, dimension), TantivyKeywords(folder / FOLDER))


def describe_index(data: Path, segment: Segment) -> str:
    """One line on the segment's vector index: kind, parameters, and why it was chosen."""
    file = stores_folder(data, segment.store_id) / segment.id / INDEX
    return describe(file.read_bytes() if INDEX in segment.files else None, segment.chunks)


def remove(folder: Path) -> None:
    """Remove a folder of segments, and what a server outside holds of them."""
    discard(folder)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, published: frozenset[str]) -> list[str]:
    """Remove folders no catalogue row names: what an interrupted writer left. Their names."""
    if not folder.is_dir():
        return []
    orphans = [path for path in folder.iterdir() if path.is_dir() and path.name not in published]
    for path in orphans:
        remove(path)
    return sorted(path.name for path in orphans)


def _damaged(path: Path, how: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} {how}: the store cannot be searched; run `fewshot verify`, then ingest into a new store"
    )


def _digest(path: Path, thorough: bool = True) -> FileDigest:
    """Size and, if `thorough`, digest."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest() if thorough else ""
        return FileDigest(sha256, path.stat().st_size)
