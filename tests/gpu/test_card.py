"""The same laws as with the scanning engine, on FAISS and a real card."""

from functools import partial

import faiss
import numpy as np
import pytest

from indexer.devices import card_number
from indexer.vectors.card import Card
from indexer.vectors.card_thread import Asked, Placed
from indexer.vectors.choice import Choice
from indexer.vectors.cuda import TEMPORARY_BYTES, CudaEngine, cards, open_card
from tests.indexer.test_card import (  # noqa: F401
    MANY,
    card,
    many,
    placed,
    plain,
    questions,
    test_a_card_finds_what_the_processor_finds,
    test_a_filter_that_hides_all_that_is_near_is_still_answered,
    test_few_rows_stay_with_the_processor,
    test_filters_and_tombstones_lose_nothing_on_a_card,
    test_many_threads_get_each_their_own_answers,
    test_several_segments_find_what_one_finds,
    test_several_segments_whose_near_rows_are_hidden_are_still_answered,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not cards(), reason="no card that FAISS can use")]


@pytest.fixture(scope="module")
def engines():
    return CudaEngine, 1.0


def test_a_card_is_picked_when_there_is_one():
    assert card_number("auto", cards()) == 0
    assert open_card("auto") is not None
    assert open_card("cpu") is None


@pytest.mark.skipif(cards() < 2, reason="one card")
def test_a_second_card_holds_what_it_searches(plain):  # noqa: F811
    made, queries = Choice("flat", "float16", {}, ""), questions(8)
    halves = [plain.stored[: MANY // 2], plain.stored[MANY // 2 :]]

    def work(engine):
        before = engine.memory_bytes
        two = [engine.place(rows, made) for rows in halves]
        whole = engine.join(two, 1 << 30)
        found = engine.search(whole.index, queries, 10, 0).positions
        return [index.getDevice() for index in (*two, whole.index)], before - engine.memory_bytes, found

    opened = [Card(partial(CudaEngine, card=number)) for number in (0, 1)]
    (_, _, expected), (devices, taken, found) = [one.thread.order(work) for one in opened]
    for one in opened:
        one.close()
    assert devices == [1, 1, 1]
    assert taken >= 2 * plain.stored.size  # the rows in 16 bits: it is the second one's memory that is told
    assert np.array_equal(found, expected)


def test_sixteen_bits_go_through_cuvs_within_the_cap(plain):  # noqa: F811
    engine = CudaEngine()
    assert engine.uses_cuvs
    before = engine.memory_bytes
    index = engine.place(plain.stored, Choice("flat", "float16", {}, ""))
    assert isinstance(index, faiss.GpuIndexFlat)
    assert before - engine.memory_bytes < TEMPORARY_BYTES // 4
    assert index.ntotal == len(plain.ids)


@pytest.mark.parametrize("kind", ["ivf", "cagra"])
def test_indexes_on_the_card_find_what_was_asked(plain, kind):  # noqa: F811
    opened = Card(CudaEngine)
    made = Choice(kind, "float16", {"lists": 256} if kind == "ivf" else {"degree": 64}, "tried")
    thread = opened.thread
    thread.order(lambda engine: thread.placed.__setitem__(99, Placed(engine.place(plain.stored, made), MANY)))
    queries = questions(64)
    truth = np.argsort(-(queries @ plain.stored.T), axis=1)[:, :10]
    best = thread.ask((Asked(99, 200),), queries, 10)
    found = np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(best.positions.tolist(), truth.tolist(), strict=True)]
    )
    opened.close()
    assert found >= 0.95


@pytest.mark.parametrize("room_bytes", [0, 1 << 30])
def test_flat_segments_are_searched_in_one_call(plain, room_bytes):  # noqa: F811
    engine = CudaEngine()
    made = Choice("flat", "float16", {}, "")
    halves = [plain.stored[: MANY // 2], plain.stored[MANY // 2 :]]
    two = [engine.place(rows, made) for rows in halves]
    whole = engine.join(two, room_bytes)
    assert whole.copied_bytes == (2 * plain.stored.size if room_bytes else 0)
    queries = questions(5)
    truth = np.argsort(-(queries @ plain.stored.T), axis=1)[:, :10]
    found = engine.search(whole.index, queries, 10, 0).positions
    same = [len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    assert np.mean(same) > 0.98
    lists = engine.place(plain.stored, Choice("ivf", "float16", {"lists": 256}, ""))
    assert engine.join([lists, two[0]], room_bytes) is None
