"""Lists under a filter, a graph with lists beside it, and how hard both look."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.vectors import describe, read
from indexer.vectors.calibration import calibrate
from indexer.vectors.calibration import questions as far_questions
from indexer.vectors.graph import Graph
from indexer.vectors.lists import Lists
from indexer.vectors.routes import Routes
from indexer.vectors.scan import scan
from tests.indexer.heaps import DIMENSION, clustered, contents, written

MANY = 6_000


@pytest.fixture(scope="module")
def rows():
    return clustered(MANY, 1)


@pytest.fixture(scope="module")
def graphed(rows, tmp_path_factory):
    return written(tmp_path_factory.mktemp("graph"), rows, kind="hnsw", precision="float32")


@pytest.fixture(scope="module")
def grouped():
    few = clustered(900, 6, centres=12)
    return few, Lists.build(few, 20)


@given(
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.003, 0.05, 0.1, 0.5]),
    sparse=st.booleans(),
    probes=st.integers(1, 20),
    queries=st.integers(1, 6),
    top=st.integers(1, 30),
)
def test_lists_find_only_what_is_chosen_and_miss_nothing_when_all_are_visited(
    grouped, seed, share, sparse, probes, queries, top
):
    rows, lists = grouped
    mask = np.random.default_rng(seed).random(len(rows)) < share
    mask[seed % len(mask)] = True
    chosen = np.flatnonzero(mask) if sparse else mask
    asked = clustered(queries, seed)
    lists.effort = probes
    found = lists.search(rows, asked, top, chosen)
    again = lists.search(rows, asked, top, chosen)
    assert np.array_equal(found.positions, again.positions)
    assert np.all(mask[found.positions[found.positions >= 0]])
    assert np.all((found.positions >= 0).sum(axis=1) == min(top, mask.sum()))
    lists.effort = 20
    top = min(top, int(mask.sum()))
    whole = lists.search(rows, asked, top, chosen)
    assert np.allclose(whole.scores, scan(rows, asked, top, chosen).scores, atol=1e-5)


def test_a_filter_that_chooses_what_lies_far_from_the_question_fills_its_places(graphed, rows):
    lists = graphed[1].shortcut.lists
    found = []
    for question in clustered(40, 2):
        closeness = rows @ question
        far = closeness < np.quantile(closeness, 0.1)
        best = lists.search(rows, question[None], 10, far)
        assert np.all(best.positions >= 0)
        assert np.all(far[best.positions])
        found.append(best.scores >= scan(rows, question[None], 10, far).scores[:, -1:] - 1e-6)
    assert np.mean(found) >= 0.9  # a walk finds an eighth of them


def test_a_graph_leaves_questions_with_a_filter_to_lists_and_tombstones_to_the_walk(graphed):
    _, stored = graphed
    routes = stored.shortcut
    assert isinstance(routes, Routes)
    assert routes.visits(MANY, 10, 0.1) == routes.lists.visits(MANY, 10, 0.1) < MANY * 0.1
    assert routes.visits(MANY, 10, 0.7) == routes.graph.visits(MANY, 10, 0.7)
    assert stored.about["filtered"] >= 0.95
    said = describe(json.dumps(dict(stored.about)).encode(), MANY)
    assert "under a filter of a tenth" in said


class Blind:
    """Finds all but every so-many-th neighbour, however hard it looks."""

    def __init__(self, every):
        self.effort, self._every = 8, every

    def search(self, rows, queries, top, chosen):
        best = scan(rows, queries, top, chosen)
        missed = np.arange(best.scores.size).reshape(best.scores.shape) % self._every == 0
        return best._replace(scores=np.where(missed, -np.inf, best.scores))


@pytest.mark.parametrize(("every", "effort", "found"), [(25, 8, 0.96), (10, 1000, 0.9), (1000, 8, 0.999)])
def test_no_effort_is_spent_that_finds_no_more_unless_too_little_is_found(every, effort, found):
    rows = clustered(1_000, 9)
    index = Blind(every)
    assert calibrate(index, rows, 0.95, far_questions(rows)) == pytest.approx(found)
    assert index.effort == pytest.approx(effort, rel=0.25)


def test_a_graph_written_without_lists_still_opens_and_walks(tmp_path):
    rows = clustered(2_000, 7)
    ids, _ = written(tmp_path, rows, kind="hnsw")
    old = contents(tmp_path)
    for name in ("centroids.f32", "members.i32", "bounds.i64"):
        del old[name]
    about = json.loads(old["index.json"])
    del about["filtered"], about["parameters"]["lists"], about["parameters"]["probes"]
    old["index.json"] = json.dumps(about).encode()
    graph = read(tmp_path, old, DIMENSION).shortcut
    assert isinstance(graph, Graph)
    assert "filter" not in describe(old["index.json"], 2_000)
    mask = np.random.default_rng(3).random(len(ids)) < 0.3
    asked = clustered(30, 8)
    worst = scan(rows, asked, 10, mask).scores[:, -1:] - 1e-6
    found = graph.search(rows, asked, 10, mask)
    assert np.all(mask[found.positions])
    assert np.mean(found.scores >= worst) >= 0.95
