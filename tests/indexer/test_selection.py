"""Choices that are remembered are the choices that would be made."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.vectors import selection
from indexer.vectors.selection import NONE, Remembered, chosen, count

ROWS = 20_000


def drawn(seed, share):
    return np.flatnonzero(np.random.default_rng(seed).random(ROWS) < share)


def same(one, other):
    return one is None if other is None else one.dtype == other.dtype and np.array_equal(one, other)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.data())
def test_a_remembered_choice_is_the_one_that_would_be_made(asked, data):
    """Of arrays that come and go, in a memory that holds few of them."""
    segments = [np.arange(ROWS) + start for start in (0, 7)]
    hidden = [NONE, *(drawn(seed, 0.1) for seed in range(3))]
    filters = [None, *(drawn(10 + seed, share) for seed, share in enumerate((0.01, 0.1, 0.9)))]
    known = Remembered(most_bytes=data.draw(st.sampled_from([0, 300_000, 2**30])))
    for dead, passing in asked:
        for ids in segments:
            rows, some = known.selected(ids, hidden[dead], filters[passing])
            wanted = chosen(ids, hidden[dead], filters[passing])
            assert same(rows, wanted)
            assert some == count(wanted, ROWS)
        if data.draw(st.booleans()):  # another filter takes the place of this one, perhaps at its address
            filters[passing] = None if filters[passing] is None else drawn(len(asked) + dead, 0.1)


def test_the_same_arrays_are_chosen_from_once():
    ids, passing = np.arange(ROWS), drawn(1, 0.1)
    known = Remembered()
    assert known.selected(ids, NONE, passing).rows is known.selected(ids, NONE, passing).rows
    assert known.selected(ids, NONE, passing.copy()).rows is not known.selected(ids, NONE, passing).rows


def test_what_is_remembered_is_bounded():
    ids, known = np.arange(ROWS), Remembered(most_bytes=100_000)
    first = drawn(0, 0.1)
    kept = known.selected(ids, NONE, first).rows
    for seed in range(1, 9):
        known.selected(ids, NONE, drawn(seed, 0.1))
    assert known.selected(ids, NONE, first).rows is not kept
    assert known._bytes <= 100_000


@pytest.mark.parametrize("rows", [10, selection.MANY])
def test_many_threads_may_ask(rows):
    ids, known = np.arange(rows), Remembered(most_bytes=50_000)
    filters = [np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.2) for seed in range(6)]
    wrong = []

    def ask(seed):
        for step in range(200):
            passing = filters[(seed + step) % len(filters)]
            if known.selected(ids, NONE, passing).some != len(passing):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert known._bytes <= 50_000
