"""Questions replayed on a real card have the vectors that they had launched."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indexer.lean_bert import LeanBert
from indexer.recorded_bert import LONGEST, recorded
from tests.gpu.test_serving import card
from tests.indexer.test_lean_bert import encoder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not card(), reason="no card")]


def text(length: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(1, 50, length).tolist()


@pytest.fixture(scope="module", params=[False, True], ids=["mean", "first"])
def both(request):
    """The encoder on the card, launched and replayed."""
    launched = LeanBert(encoder().to("cuda"), pools_first=request.param)
    return launched, recorded(launched)


def test_each_length_has_the_vector_it_had_launched(both):
    launched, replayed = both
    assert replayed is not None
    assert replayed.longest == min(LONGEST, launched.window)
    for length in (*range(1, replayed.longest + 1), 3, replayed.longest, 1):  # in any order
        tokens = text(length, seed=length)
        assert np.allclose(replayed.vector(tokens), launched.vector(tokens), atol=1e-5)


def test_a_vector_stays_what_it_was_when_the_next_question_comes(both):
    _, replayed = both
    first = replayed.vector(text(9))
    kept = first.copy()
    replayed.vector(text(9, seed=2))
    assert np.array_equal(first, kept)


def test_another_thread_gets_the_same(both):
    _, replayed = both
    with ThreadPoolExecutor(1) as other:
        assert np.array_equal(other.submit(replayed.vector, text(7)).result(), replayed.vector(text(7)))


def test_it_is_recorded_while_others_use_the_card():
    import torch

    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            float(torch.ones(1 << 20, device="cuda").sum())  # no random numbers: torch forbids them then

    with ThreadPoolExecutor(1) as other:
        beside = other.submit(busy)
        try:
            assert recorded(LeanBert(encoder().to("cuda"), pools_first=False)) is not None
        finally:
            done.set()
        beside.result()
