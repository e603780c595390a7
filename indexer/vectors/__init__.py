"""Nearest neighbours by inner product of unit vectors: the only package that imports faiss."""

from indexer.vectors.flat import FILE, FlatVectors
from indexer.vectors.selection import NONE
from indexer.vectors.several import nearest, nearest_each

__all__ = ["FILE", "NONE", "FlatVectors", "nearest", "nearest_each"]
