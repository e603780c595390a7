"""Vectors that lie as sentence vectors do, written as a segment's are."""

import numpy as np

from indexer.vectors import Wanted, choose, read, write

DIMENSION = 48
GIB = 2**30


def clustered(many: int, seed: int, centres: int = 60) -> np.ndarray:
    """Unit rows in heaps of different sizes and widths, as sentence vectors lie."""
    chance = np.random.default_rng(seed)
    middles = np.random.default_rng(9).normal(size=(centres, DIMENSION))
    widths = np.random.default_rng(8).uniform(0.2, 0.9, size=centres)
    heap = (centres * chance.random(many) ** 2).astype(int)
    rows = middles[heap] + widths[heap, None] * chance.normal(size=(many, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def written(folder, rows, **asked):
    ids = np.arange(100, 100 + 2 * len(rows), 2)
    choice = choose(len(rows), DIMENSION, Wanted(**asked), 8 * GIB)
    write(folder, ids, rows, choice, Wanted(**asked))
    return ids, read(folder, contents(folder), DIMENSION)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
