"""FAISS against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.records import Ranked
from indexer.vectors import NONE, FlatVectors, nearest, nearest_each
from indexer.vectors.scan import APART, widen
from indexer.vectors.several import ALONE
from tests.indexer.oracles import NumpyVectors

DIMENSION = 8


def unit_rows(many: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(many, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def holding(ids: np.ndarray, rows: np.ndarray) -> FlatVectors:
    index = FlatVectors(DIMENSION)
    index.ids, index.stored = ids, rows
    return index


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=8),
    seed=st.integers(0, 2**16),
    top=st.integers(1, 30),
)
def test_adding_and_removing_is_what_a_dictionary_would_do(steps, seed, top):
    chance = np.random.default_rng(seed)
    real, oracle = FlatVectors(DIMENSION), NumpyVectors()
    fresh = 1
    for adding, many in steps:
        if adding:
            ids = np.arange(fresh, fresh + many)
            rows = unit_rows(many, seed + fresh)
            fresh += many
            real.add(ids, rows)
            oracle.add(ids, rows)
        else:
            ids = chance.integers(1, fresh + 1, size=many)
            real.remove(ids)
            oracle.remove(ids)
    question = unit_rows(1, seed)[0]
    assert set(real.ids.tolist()) == set(oracle.rows)
    expected = oracle.nearest(question, top)
    found = real.nearest(question, top)
    assert found.ids == expected.ids
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)


@given(seed=st.integers(0, 2**16), hidden=st.sets(st.integers(1, 40)), top=st.integers(1, 20))
def test_hidden_rows_do_not_take_places(seed, hidden, top):
    rows = unit_rows(40, seed)
    segments = [FlatVectors(DIMENSION), FlatVectors(DIMENSION)]
    oracle = NumpyVectors()
    for segment, part in zip(segments, (slice(0, 25), slice(25, 40)), strict=True):
        segment.add(np.arange(1, 41)[part], rows[part])
    oracle.add(np.arange(1, 41), rows)
    gone = np.array(sorted(hidden), dtype=np.int64)
    oracle.remove(gone)
    question = unit_rows(1, seed + 1)[0]
    assert nearest(segments, question, top, gone).ids == oracle.nearest(question, top).ids


@given(
    seed=st.integers(0, 2**16),
    many=st.integers(1, 400),
    share=st.sampled_from([0.001, 0.01, 0.04, 0.1, 0.5, 1.0, None]),
    dead=st.sampled_from([0.0, 0.3, 1.0]),
    gaps=st.booleans(),
    half=st.booleans(),
    queries=st.integers(1, 6),
    top=st.integers(1, 30),
)
def test_a_filter_and_tombstones_work_inside_the_scan(seed, many, share, dead, gaps, half, queries, top):
    chance = np.random.default_rng(seed)
    ids = np.sort(chance.choice(10 * many, many, replace=False)) if gaps else np.arange(50, 50 + many)
    rows = unit_rows(many, seed).astype(np.float16 if half else np.float32)
    everything = np.arange(10 * many + 60)
    allowed = None if share is None else everything[chance.random(len(everything)) < share]
    hidden = everything[chance.random(len(everything)) < dead]
    cut = chance.integers(0, many + 1)
    segments = [holding(ids[:cut], rows[:cut]), holding(ids[cut:], rows[cut:])]
    asked = unit_rows(queries, seed + 1)

    found = nearest_each(segments, asked, top, hidden, allowed)

    seen = ~np.isin(ids, hidden) & (np.True_ if allowed is None else np.isin(ids, allowed))
    oracle = NumpyVectors()
    oracle.add(ids[seen], rows[seen].astype(np.float32))
    for vector, ranked in zip(asked, found, strict=True):
        expected = oracle.nearest(vector, top)
        assert ranked.ids == expected.ids
        assert ranked.scores == pytest.approx(expected.scores, abs=1e-5)
        assert nearest(segments, vector, top, hidden, allowed).ids == expected.ids


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_a_large_segment_is_scanned_in_parts_and_loses_nothing(kind, share):
    many = 3 * ALONE
    rows, ids = unit_rows(many, 5).astype(kind), np.arange(7, 7 + many)
    allowed = ids[np.random.default_rng(1).random(many) < share]
    asked = unit_rows(APART + 1, 6)
    scores = asked @ rows[allowed - 7].astype(np.float32).T
    best = np.sort(scores, axis=1)[:, ::-1][:, :100]
    for hits, expected in zip(
        nearest_each([holding(ids, rows)], asked, 100, allowed=allowed), best, strict=True
    ):
        assert set(hits.ids) <= set(allowed.tolist())
        assert hits.scores == pytest.approx(expected.tolist(), abs=1e-5)


def test_equal_scores_are_ordered_by_id():
    same = np.repeat(unit_rows(1, 3), 9, axis=0)
    segments = [holding(np.arange(10, 19), same), holding(np.arange(1, 10), same)]
    assert nearest(segments, same[0], 18).ids == tuple(range(1, 19))


def test_nothing_to_find_is_no_error():
    assert nearest([], unit_rows(1, 1)[0], 5) == Ranked((), ())
    assert nearest([FlatVectors(DIMENSION)], unit_rows(1, 1)[0], 5).ids == ()
    full = holding(np.arange(3), unit_rows(3, 1))
    assert nearest([full], unit_rows(1, 1)[0], 0).ids == ()
    assert nearest([full], unit_rows(1, 1)[0], 5, allowed=NONE).ids == ()
    assert nearest_each([full], unit_rows(0, 1), 5) == []


def test_halves_are_widened_exactly():
    rows = np.random.default_rng(2).normal(size=(5, 24)).astype(np.float16)
    assert np.array_equal(widen(rows), rows.astype(np.float32))
