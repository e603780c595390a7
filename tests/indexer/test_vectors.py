"""FAISS against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import StoreDamaged
from indexer.vectors import FlatVectors, nearest
from tests.indexer.oracles import NumpyVectors

DIMENSION = 8


def unit_rows(many: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(many, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


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


def test_an_index_comes_back_from_its_bytes():
    index = FlatVectors(DIMENSION)
    index.add(np.array([7, 3]), unit_rows(2, 1))
    again = FlatVectors.loads(index.dumps(), DIMENSION)
    assert again.ids.tolist() == [7, 3]
    assert np.array_equal(again.rows(), unit_rows(2, 1))


def test_bytes_of_another_index_are_refused():
    with pytest.raises(StoreDamaged):
        FlatVectors.loads(b"IxMp nonsense", DIMENSION)
    with pytest.raises(StoreDamaged, match="dimension 9"):
        FlatVectors.loads(FlatVectors(DIMENSION).dumps(), 9)
