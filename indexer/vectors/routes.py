"""A graph, and lists beside it for questions with a filter: each question goes the cheaper way.

A walk meets rows in the order of nearness, allowed or not: where a tenth are allowed it must keep ten
times the candidates. Lists cost little more for a row that is not allowed than a look at a mask.
"""

from collections.abc import Mapping
from pathlib import Path

from indexer.seams import Vectors
from indexer.vectors.graph import Graph
from indexer.vectors.lists import Lists
from indexer.vectors.scan import Best, Rows
from indexer.vectors.selection import Chosen, count

LEAST_SHARE = 0.05  # where fewer may be found, how far the nearest spread over lists was not measured
MOST_SHARE = 0.5  # where more may be found, a walk is cheaper, and tombstones alone stay with it
SAMPLE, ROUNDS = 16, 5  # of training: a quarter of an `ivf` segment's; probes make up for it
LEAST = 4  # probes: fewer save little, and are too few for questions unlike any row
CALIBRATED = 0.1  # share at which the lists' probes are measured


class Routes:
    """Walks the graph, or visits the lists where that is cheaper under a filter."""

    knob, margin = Graph.knob, Graph.margin
    seat = None

    def __init__(self, graph: Graph, lists: Lists) -> None:
        self.graph, self.lists = graph, lists

    @classmethod
    def build(cls, rows: Rows, links: int, many: int) -> "Routes":
        """Link all rows, and group them into `many` lists."""
        lists = Lists.build(rows, many, SAMPLE, ROUNDS)
        lists.effort = LEAST
        return cls(Graph.build(rows, links), lists)

    @classmethod
    def load(
        cls, contents: Mapping[str, bytes], rows: Rows, parameters: Mapping[str, int]
    ) -> "Routes | Graph":
        """Both from verified bytes; the graph alone where a release up to 0.1 wrote no lists.

        Raises `StoreDamaged` when they do not belong to the rows, `KeyError` for what is not there.
        """
        walk = Graph.load(contents, rows, int(parameters[Graph.knob]))
        if Lists.knob not in parameters:
            return walk
        return cls(walk, Lists.load(contents, rows, int(parameters[Lists.knob])))

    @property
    def effort(self) -> int:
        """Candidates of a walk when all may be found."""
        return self.graph.effort

    @effort.setter
    def effort(self, candidates: int) -> None:
        self.graph.effort = candidates

    def dump(self, folder: Path) -> None:
        """Write both under `folder`."""
        self.graph.dump(folder)
        self.lists.dump(folder)

    def visits(self, rows: int, top: int, share: float) -> float:
        """Rows that the cheaper way scores when `share` of them may be found."""
        return self._way(rows, top, share).visits(rows, top, share)

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows that the cheaper way meets."""
        some = count(chosen, len(rows))
        if self._way(len(rows), top, some / len(rows)) is self.lists:
            return self.lists.among(rows, queries, top, chosen, some)
        return self.graph.search(rows, queries, top, chosen)

    def _way(self, rows: int, top: int, share: float) -> Graph | Lists:
        if not LEAST_SHARE <= share <= MOST_SHARE:
            return self.graph
        ways: tuple[Graph | Lists, ...] = (self.graph, self.lists)
        return min(ways, key=lambda way: way.visits(rows, top, share))
