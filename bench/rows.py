"""Vectors to search in, and the bare ways of searching them that ours is held against."""

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.machine import cores

DIMENSION = 384
TOP = 10
HEAPS = 2000
_BLOCK = 1 << 16

Rows = NDArray[Any]  # (n, dimension)
_faiss: Any = faiss


def random_rows(many: int, seed: int) -> Rows:
    """Unit rows in all directions: right for speed, the worst there is for a graph."""
    return unit(np.random.default_rng(seed).standard_normal((many, DIMENSION), dtype=np.float32))


def clustered_rows(many: int, seed: int, real: Path | None) -> Rows:
    """Unit rows in heaps: mixtures of two `real` sentence vectors (a .npy), or of made-up centres.

    Even seeds draw from one half of the vectors, odd ones from the other: questions are not rows.
    """
    chance = np.random.default_rng(seed)
    if real is None:
        base = unit(np.random.default_rng(9).standard_normal((2 * HEAPS, DIMENSION), dtype=np.float32))
        mixed, width = base, 0.9
    else:
        base = np.load(real, mmap_mode="r")
        mixed, width = np.asarray(base[seed % 2 :: 2], dtype=np.float32), 0.0
    rows = np.empty((many, DIMENSION), dtype=np.float32)
    for start in range(0, many, _BLOCK):
        size = min(_BLOCK, many - start)
        near, far = chance.integers(len(mixed), size=(2, size))
        weight = chance.random((size, 1), dtype=np.float32) * 0.7
        block = mixed[near] + weight * mixed[far]
        if width:
            block += width / DIMENSION**0.5 * chance.standard_normal(block.shape, dtype=np.float32)
        rows[start : start + size] = unit(block)
    return rows


def unit(rows: Rows) -> Rows:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def copier(source: Rows) -> Callable[[], float]:
    """Bytes a second, read and written, of a copy with all cores."""
    part = len(source) // 2
    target = np.empty_like(source[:part])
    threads = ThreadPoolExecutor(cores())
    bounds = np.linspace(0, part, cores() + 1).astype(int).tolist()
    slices = [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def copy() -> float:
        started = time.perf_counter()
        list(threads.map(lambda part: np.copyto(target[part], source[part]), slices))
        return 2 * target.nbytes / (time.perf_counter() - started)

    return copy


def product_and_top(rows: Rows, queries: Rows) -> NDArray[np.int64]:
    """numpy's matrix product and selection, 64 questions at a time so that the scores fit."""
    found = []
    for start in range(0, len(queries), 64):
        scores = queries[start : start + 64] @ rows.T
        found.append(np.argpartition(scores, -TOP, axis=1)[:, -TOP:])
    return np.concatenate(found)


def plain_flat(rows: Rows) -> Any:
    """FAISS's flat index as it comes, over the same memory, which must outlive it."""
    half = rows.dtype == np.float16
    index: Any = (
        _faiss.IndexScalarQuantizer(rows.shape[1], _faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        if half
        else _faiss.IndexFlatIP(rows.shape[1])
    )
    flat = rows.view(np.uint8).reshape(-1)
    owner = _faiss.MaybeOwnedVectorUInt8().owner
    index.codes = _faiss.MaybeOwnedVectorUInt8.create_view(_faiss.swig_ptr(flat), flat.size, owner)
    index.ntotal, index.is_trained = len(rows), True
    return index


def recall(found: Any, truth: Any) -> float:
    """Mean share of the true ids that were found, row by row."""
    pairs = zip(np.asarray(found).tolist(), np.asarray(truth).tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / max(1, len(b)) for a, b in pairs]))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
