"""The vectors of one segment on disk: plain arrays that are mapped, and the index beside them."""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from indexer.durability import write_array
from indexer.errors import StoreDamaged
from indexer.seams import Ids, Vectors
from indexer.vectors.calibration import calibrate, questions
from indexer.vectors.choice import Choice, Wanted
from indexer.vectors.lists import Lists
from indexer.vectors.milvus import Collection
from indexer.vectors.routes import CALIBRATED, Routes
from indexer.vectors.scan import Rows, widen
from indexer.vectors.several import Shortcut

IDS, INDEX, OLD = "ids.i64", "index.json", "vectors.faiss"
ROWS = {"float32": "rows.f32", "float16": "rows.f16"}
_OLD_ABOUT: Mapping[str, Any] = {
    "kind": "flat",
    "precision": "float32",
    "parameters": {},
    "why": "written by release 0.1",
    "recall": 1.0,
}


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Rows by increasing id, and what finds among them without looking at all."""

    ids: Ids
    stored: Rows
    about: Mapping[str, Any]  # kind, precision, parameters, why, recall
    shortcut: Shortcut | None = None

    def rows(self, step: int = 1) -> Vectors:
        """Every `step`-th vector, shape (n, dimension), in the order of `ids`; a copy."""
        return np.array(widen(np.ascontiguousarray(self.stored[::step])))


def write(folder: Path, ids: Ids, vectors: Vectors, choice: Choice, wanted: Wanted) -> None:
    """Write the vectors of a segment, in the order of increasing ids, and build the chosen index."""
    order = np.argsort(ids, kind="stable")
    wide = np.ascontiguousarray(vectors[order], dtype=np.float32)
    rows: Rows = wide.astype(np.float16) if choice.precision == "float16" else wide
    write_array(folder / IDS, np.asarray(ids[order], dtype=np.int64))
    write_array(folder / ROWS[choice.precision], rows)
    about: dict[str, Any] = {**choice._asdict(), "recall": 1.0}
    if (shortcut := _build(rows, choice, wanted)) is not None:
        about.update(_tune(shortcut, rows, choice, wanted.recall))
        shortcut.dump(folder)
    (folder / INDEX).write_text(json.dumps(about, indent=1))


def _build(rows: Rows, choice: Choice, wanted: Wanted) -> Routes | Lists | Collection | None:
    parameters = choice.parameters
    if choice.kind == "hnsw":
        return Routes.build(rows, parameters["links"], parameters["lists"])
    if choice.kind == "ivf":
        return Lists.build(rows, parameters["lists"])
    if choice.kind == "milvus":
        return Collection.build(rows, parameters["links"], wanted.uri)
    return None


def _tune(index: Routes | Lists | Collection, rows: Rows, choice: Choice, recall: float) -> dict[str, Any]:
    """How hard to look, and what was found so."""
    asked = questions(rows)
    found = {"recall": calibrate(index, rows, recall, asked, margin=index.margin)}
    parameters = {**choice.parameters, index.knob: index.effort}
    if isinstance(index, Routes):
        found["filtered"] = calibrate(index.lists, rows, recall, asked, CALIBRATED, Lists.margin)
        parameters[index.lists.knob] = index.lists.effort
    return {**found, "parameters": parameters}


def read(folder: Path, contents: Mapping[str, bytes], dimension: int) -> StoredVectors:
    """The vectors in `folder`, whose `contents` (all files but large rows) were verified by digest.

    Rows are mapped, not read. Raises `StoreDamaged` when the files do not fit each other.
    """
    if OLD in contents:
        return _read_old(contents[OLD], dimension)
    try:
        about = json.loads(contents[INDEX])
        ids = np.frombuffer(contents[IDS], dtype=np.int64)
        rows = _mapped(folder / ROWS[about["precision"]], about["precision"], dimension)
        if len(rows) != len(ids):
            raise StoreDamaged(f"{folder} has {len(rows)} rows and {len(ids)} ids of dimension {dimension}")
        shortcut = _open(about["kind"], contents, rows, about["parameters"])
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise StoreDamaged(
            f"{folder} does not hold the vectors of a segment of dimension {dimension}"
        ) from error
    return StoredVectors(ids, rows, about, shortcut)


def _open(
    kind: str, contents: Mapping[str, bytes], rows: Rows, parameters: Mapping[str, int]
) -> Shortcut | None:
    if kind == "hnsw":
        return Routes.load(contents, rows, parameters)
    if kind == "ivf":
        return Lists.load(contents, rows, int(parameters[Lists.knob]))
    if kind == "milvus":
        return Collection.load(contents, rows, int(parameters[Collection.knob]))
    return None


def is_rows(name: str) -> bool:
    """Is this file of a segment a plain array of rows: nothing that a parser could trip over?"""
    return name in ROWS.values()


def describe(index: bytes | None, rows: int) -> str:
    """What a segment's index is and why, from its `index.json`; None: release 0.1 wrote none."""
    about = _OLD_ABOUT if index is None else json.loads(index)
    parameters = "".join(f", {name} {value}" for name, value in about["parameters"].items())
    found = "" if about["kind"] == "flat" else f", recall@10 {about['recall']:.3f} on a sample"
    if "filtered" in about:
        found += f" ({about['filtered']:.3f} under a filter of a tenth)"
    return f"{about['kind']} {about['precision']}, {rows:,} rows{parameters}{found}: {about['why']}"


def _mapped(path: Path, precision: str, dimension: int) -> Rows:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_WILLNEED)  # the first question need not wait for every page
    kind: Any = np.float16 if precision == "float16" else np.float32
    rows: Rows = np.frombuffer(mapped, dtype=kind).reshape(-1, dimension)
    return rows


def _read_old(content: bytes, dimension: int) -> StoredVectors:
    """A flat FAISS index with ids: what releases up to 0.1 wrote."""
    try:
        index: Any = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    except RuntimeError as error:
        raise StoreDamaged(f"{OLD} is not a FAISS index") from error
    if not isinstance(index, faiss.IndexIDMap2) or index.d != dimension:
        raise StoreDamaged(f"{OLD} is not a flat index of dimension {dimension}")
    ids = np.array(faiss.vector_to_array(index.id_map), dtype=np.int64)
    flat: Any = faiss.downcast_index(index.index)
    rows = np.array(faiss.vector_to_array(flat.codes)).view(np.float32)
    order = np.argsort(ids, kind="stable")
    return StoredVectors(ids[order], rows.reshape(-1, dimension)[order], _OLD_ABOUT)
