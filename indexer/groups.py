"""Snapshots whose vectors can be searched together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer import vectors
from indexer.seams import Embedder, Ids
from indexer.snapshots import Snapshot


class Group(NamedTuple):
    """Snapshots whose vectors are of one model; of none when only words are looked for."""

    embedder: Embedder | None
    snapshots: Sequence[Snapshot]
    hidden: Ids
    allowed: Ids | None


def few_will_do(groups: Sequence[Group]) -> bool:
    """Whether the best few by vector are the same however many are asked for: where every row is looked at.

    Some two hundred candidates cost as much as the scan of some thousand rows, and nearly always the hits
    are the first of them. A graph, though, looks less far when it is asked for less.
    """
    segments = [one for group in groups for held in group.snapshots for one in held.segments.values()]
    return len(groups) == 1 and not any(segment.vectors.shortcut for segment in segments)


def together(ids: Sequence[Ids]) -> Ids:
    """All of the sorted `ids`, sorted."""
    return ids[0] if len(ids) == 1 else np.sort(np.concatenate([vectors.NONE, *ids]))
