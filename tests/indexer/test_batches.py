"""Batches by token budget."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.batches import batched, padded


@given(st.lists(st.integers(0, 300), max_size=80), st.integers(1, 1000))
def test_every_text_is_in_one_batch_and_no_batch_is_over_budget(lengths, budget):
    groups = batched(lengths, budget)
    assert sorted(at for group in groups for at in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[at] for at in group) <= budget
    longest = [max(lengths[at] for at in group) for group in groups]
    assert longest == sorted(longest, reverse=True)


def test_short_rows_are_padded_and_masked():
    ids, mask = padded([[5, 6, 7], [8]], padding=1)
    assert np.array_equal(ids, [[5, 6, 7], [8, 1, 1]])
    assert np.array_equal(mask, [[1, 1, 1], [1, 0, 0]])
