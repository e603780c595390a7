"""Columns of a page whose lines come row by row across them: put in order. Geometry only, y upwards."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

LEAST_LINES = 8  # of each column
LEAST_WIDTH = 0.22  # of the page, on average: narrower lines are cells of a table
MOST_ACROSS = 0.3  # of the lines may cross the gap: titles, figures
LEAST_SWITCHES = 0.5  # of the lines jump from side to side: else the order is that of the columns already


class Strip(NamedTuple):
    """The box of a piece of a line of text."""

    left: float
    bottom: float
    right: float
    top: float


def in_columns(strips: Sequence[Strip], width: float) -> list[int] | None:
    """The order in which to read the strips of a page of two columns, or None to leave it as it is."""
    gap = _gap(strips, width)
    if gap is None:
        return None
    sides = [0 if strip.right <= gap else 1 if strip.left >= gap else None for strip in strips]
    switches = sum(None not in pair and pair[0] != pair[1] for pair in pairwise(sides))
    if switches < LEAST_SWITCHES * len(strips):
        return None
    order: list[int] = []
    left: list[int] = []
    right: list[int] = []
    for at, side in enumerate(sides):
        if side is None:  # what spans the page ends the columns above it
            order += left + right + [at]
            left, right = [], []
        else:
            (right if side else left).append(at)
    return order + left + right


def _gap(strips: Sequence[Strip], width: float) -> float | None:
    """The x of an empty strip between two columns of prose."""
    best: tuple[int, float] | None = None
    for percent in range(40, 61):
        x = width * percent / 100
        left = [strip for strip in strips if strip.right <= x]
        right = [strip for strip in strips if strip.left >= x]
        across = len(strips) - len(left) - len(right)
        if min(len(left), len(right)) < LEAST_LINES or across > MOST_ACROSS * len(strips):
            continue
        wide = all(
            sum(strip.right - strip.left for strip in side) >= LEAST_WIDTH * width * len(side)
            for side in (left, right)
        )
        if wide and (best is None or across < best[0]):
            best = (across, x)
    return best[1] if best else None
