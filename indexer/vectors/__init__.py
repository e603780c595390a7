"""Nearest neighbours by inner product of unit vectors: the only package that imports faiss."""

from indexer.vectors.choice import Choice, Wanted, choose, wanted
from indexer.vectors.flat import FlatVectors
from indexer.vectors.milvus import discard
from indexer.vectors.selection import NONE
from indexer.vectors.several import nearest, nearest_each
from indexer.vectors.stored import INDEX, StoredVectors, describe, is_rows, read, write

__all__ = [
    "INDEX",
    "NONE",
    "Choice",
    "FlatVectors",
    "StoredVectors",
    "Wanted",
    "choose",
    "describe",
    "discard",
    "is_rows",
    "nearest",
    "nearest_each",
    "read",
    "wanted",
    "write",
]
