"""Ruled tables of a page, from where its lines and its characters are. Geometry only: points, y upwards."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from indexer.reading.grid import markdown_table

NEAR = 3.0  # points within which two lines are one
SHORTEST = 8.0  # of a line that can rule a table
MOST_LINES = 4_000  # of a page: more are a drawing or a map
MOST_ROWS, MOST_COLUMNS = 400, 40
LEAST_FILLED = 0.4  # of the cells


class Line(NamedTuple):
    """A straight line."""

    x0: float
    y0: float
    x1: float
    y1: float


class Glyph(NamedTuple):
    """A character and its middle; made up ones, such as spaces, have none."""

    char: str
    x: float | None
    y: float | None


@dataclass(frozen=True, slots=True)
class Grid:
    """The rows and columns of one table."""

    xs: tuple[float, ...]  # borders between columns, ascending
    ys: tuple[float, ...]  # borders between rows, ascending
    walls: tuple[Line, ...]  # its vertical lines

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """(row from the top, column) of a point, or None outside."""
        if not (self.xs[0] <= x <= self.xs[-1] and self.ys[0] <= y <= self.ys[-1]):
            return None
        column = min(bisect_right(self.xs, x), len(self.xs) - 1) - 1
        row = len(self.ys) - 1 - min(bisect_right(self.ys, y), len(self.ys) - 1)
        return row, column

    def starts(self, row: int, column: int) -> bool:
        """Whether there is a line at the left of this cell: if not, it is merged with the one before."""
        bottom, top = self.ys[-row - 2], self.ys[-row - 1]
        middle, x = (bottom + top) / 2, self.xs[column]
        return column == 0 or any(
            abs(wall.x0 - x) <= NEAR and min(wall.y0, wall.y1) <= middle <= max(wall.y0, wall.y1)
            for wall in self.walls
        )


def grids(lines: Iterable[Line]) -> list[Grid]:
    """Grids of two rows and two columns or more that the lines rule."""
    flat, upright = [], []
    for number, line in enumerate(lines):
        if number >= MOST_LINES:
            return []
        if abs(line.y0 - line.y1) <= 1 and abs(line.x0 - line.x1) >= SHORTEST:
            flat.append(line)
        elif abs(line.x0 - line.x1) <= 1 and abs(line.y0 - line.y1) >= SHORTEST:
            upright.append(line)
    found = []
    for some_flat, some_upright in _connected(flat, upright):
        xs, ys = _borders([line.x0 for line in some_upright]), _borders([line.y0 for line in some_flat])
        if 3 <= len(xs) <= MOST_COLUMNS + 1 and 3 <= len(ys) <= MOST_ROWS + 1:
            found.append(Grid(xs, ys, tuple(some_upright)))
    return found


class Written(NamedTuple):
    """A grid with its words: lines that span all of it at its top and bottom, and the table between."""

    above: str
    table: str  # Markdown
    below: str


def written(grid: Grid, glyphs: Sequence[Glyph]) -> Written | None:
    """The grid with these characters in it, or None when it is no table of words."""
    rows = [["" for _ in grid.xs[1:]] for _ in grid.ys[1:]]
    last: tuple[int, int] | None = None
    for glyph in glyphs:
        at = last if glyph.x is None or glyph.y is None else grid.cell(glyph.x, glyph.y)
        if at is not None:
            while not grid.starts(*at):
                at = (at[0], at[1] - 1)
            rows[at[0]][at[1]] += (" " if last not in (None, at) else "") + glyph.char
            last = at
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    filled = sum(bool(cell) for row in rows for cell in row)
    starts = sum(grid.starts(row, column) for row in range(len(rows)) for column in range(len(rows[0])))
    several = sum(sum(map(bool, row)) > 1 for row in rows)
    if several < 2 or filled < LEAST_FILLED * starts:
        return None
    inner = range(1, len(rows[0]))
    spanned = [not any(grid.starts(number, column) for column in inner) for number in range(len(rows))]
    for number, row in enumerate(rows):  # a merged cell says the same in each of its columns
        for column in inner:
            if not grid.starts(number, column) and not spanned[number]:
                row[column] = row[column - 1]
    top = spanned.index(False)
    bottom = len(rows) - spanned[::-1].index(False)
    body = [row for row in rows[top:bottom] if any(row)]
    above, below = ("".join(f"{row[0]}\n" for row in some if row[0]) for some in (rows[:top], rows[bottom:]))
    return Written(above, markdown_table(body), below)


def _borders(places: Sequence[float]) -> tuple[float, ...]:
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place - kept[-1] > NEAR:
            kept.append(place)
    return tuple(kept)


def _connected(flat: list[Line], upright: list[Line]) -> list[tuple[list[Line], list[Line]]]:
    """Groups of lines that touch each other, directly or through others."""
    lines = [*flat, *upright]
    group = list(range(len(lines)))

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    order = sorted(range(len(upright)), key=lambda at: upright[at].x0)
    places = [upright[at].x0 for at in order]
    for number, line in enumerate(flat):
        left, right = min(line.x0, line.x1) - NEAR, max(line.x0, line.x1) + NEAR
        for at in order[bisect_right(places, left) : bisect_right(places, right)]:
            wall = upright[at]
            if min(wall.y0, wall.y1) - NEAR <= line.y0 <= max(wall.y0, wall.y1) + NEAR:
                group[root(number)] = root(len(flat) + at)
    groups: dict[int, tuple[list[Line], list[Line]]] = {}
    for at, line in enumerate(lines):
        groups.setdefault(root(at), ([], []))[at >= len(flat)].append(line)
    return [pair for pair in groups.values() if pair[0] and pair[1]]


def consecutive(grids: Sequence[Grid]) -> list[Grid]:
    """The grids without those that lie inside another."""
    kept: list[Grid] = []
    for grid in sorted(grids, key=lambda one: -(one.xs[-1] - one.xs[0]) * (one.ys[-1] - one.ys[0])):
        middle = ((grid.xs[0] + grid.xs[-1]) / 2, (grid.ys[0] + grid.ys[-1]) / 2)
        if all(other.cell(*middle) is None for other in kept):
            kept.append(grid)
    return kept


def edges(points: Sequence[tuple[float, float]], closed: bool) -> Iterable[Line]:
    """The lines between points, back to the first when the path is closed."""
    for (x0, y0), (x1, y1) in pairwise((*points, points[0]) if closed and points else points):
        yield Line(x0, y0, x1, y1)
