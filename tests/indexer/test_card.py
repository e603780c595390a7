"""What a card must do whichever engine drives it; here one that scans on the processor."""

import gc
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from indexer.errors import IndexOptionRefused
from indexer.vectors import StoredVectors, Wanted, nearest, nearest_each
from indexer.vectors.card import LEAST, MOST, Card
from indexer.vectors.card_thread import TOGETHER
from indexer.vectors.scan import Whole, counted_on, scan

DIMENSION = 24
MANY = LEAST + 3000


class ScanningEngine:
    """A card of 1 GiB played by the processor. Writes down who calls and with how much."""

    memory_bytes = 2**30

    def __init__(self):
        self.calls = []
        self.threads = {threading.get_ident()}
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()

    def place(self, rows, choice):
        self.threads.add(threading.get_ident())
        return rows

    def search(self, index, queries, top, effort):
        self.busy.set()
        self.gate.wait(5)
        self.threads.add(threading.get_ident())
        self.calls.append(len(queries))
        if isinstance(index, np.ndarray):
            return scan(index, queries, top)
        return counted_on([scan(rows, queries, top) for rows in index], [len(rows) for rows in index], top)

    def join(self, indexes, room_bytes):
        self.threads.add(threading.get_ident())
        return Whole(tuple(indexes), 0)


class ApartEngine(ScanningEngine):
    """One that cannot search several indexes in one call."""

    def join(self, indexes, room_bytes):
        return None


@pytest.fixture(scope="module")
def engines():
    """The class of engine, and how near its answers come to the exact ones."""
    return ScanningEngine, 1.0


@pytest.fixture(scope="module")
def card(engines):
    opened = Card(engines[0])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def plain():
    rows = np.random.default_rng(3).normal(size=(MANY, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return StoredVectors(np.arange(10, 10 + 2 * MANY, 2), rows, {"kind": "flat"})


@pytest.fixture(scope="module")
def placed(card, plain):
    return card.place(plain, Wanted())


def questions(many, seed=4):
    rows = np.random.default_rng(seed).normal(size=(many, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recall(found, truth):
    return np.mean(
        [len(set(a.ids) & set(b.ids)) / max(1, len(b.ids)) for a, b in zip(found, truth, strict=True)]
    )


@pytest.mark.parametrize("many", [1, 7, TOGETHER, TOGETHER + 44])
def test_a_card_finds_what_the_processor_finds(placed, plain, engines, many):
    asked = questions(many)
    assert recall(nearest_each([placed], asked, 10), nearest_each([plain], asked, 10)) >= 0.99 * engines[1]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dead", [0.0, 0.3])
def test_filters_and_tombstones_lose_nothing_on_a_card(placed, plain, engines, share, dead):
    chance = np.random.default_rng(int(1000 * share))
    allowed = plain.ids[chance.random(MANY) < share]
    hidden = plain.ids[chance.random(MANY) < dead]
    asked = questions(5)
    found = nearest_each([placed], asked, 10, hidden, allowed)
    assert recall(found, nearest_each([plain], asked, 10, hidden, allowed)) >= 0.98 * engines[1]
    for ranked in found:
        assert not set(ranked.ids) & set(hidden.tolist())
        assert set(ranked.ids) <= set(allowed.tolist())
        assert len(ranked.ids) == min(10, len(np.setdiff1d(allowed, hidden)))


def test_a_filter_that_hides_all_that_is_near_is_still_answered(placed, plain):
    asked = questions(1)[0]
    near = np.array(sorted(nearest([plain], asked, MOST + 500).ids))
    assert len(nearest([placed], asked, 10, hidden=near).ids) == 10
    assert nearest([placed], asked, 10, hidden=near).ids == nearest([plain], asked, 10, hidden=near).ids


def cut(card, plain, pieces):
    """The rows in segments: most on the card, the last one too small for it."""
    bounds = [0, *(LEAST * (at + 1) for at in range(pieces)), len(plain.ids)]
    parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
    segments = [StoredVectors(plain.ids[part], plain.stored[part], {"kind": "flat"}) for part in parts]
    return [card.place(segment, Wanted()) for segment in segments]


@pytest.fixture(scope="module")
def many():
    """More rows, for several segments."""
    rows = np.random.default_rng(5).normal(size=(3 * LEAST + 500, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return StoredVectors(np.arange(10, 10 + 2 * len(rows), 2), rows, {"kind": "flat"})


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_several_segments_find_what_one_finds(card, engines, many, share):
    segments = cut(card, many, 3)
    allowed = None if share == 1.0 else many.ids[np.random.default_rng(6).random(len(many.ids)) < share]
    asked = questions(5)
    found = nearest_each(segments, asked, 10, allowed=allowed)
    assert recall(found, nearest_each([many], asked, 10, allowed=allowed)) >= 0.99 * engines[1]


def test_several_segments_whose_near_rows_are_hidden_are_still_answered(card, many):
    segments = cut(card, many, 3)
    asked = questions(1)[0]
    near = np.array(sorted(nearest([many], asked, MOST + 500).ids))
    found, true = (nearest(rows, asked, 10, hidden=near) for rows in (segments, [many]))
    assert not set(found.ids) & set(near.tolist())
    # Among two thousand that come later, scores lie closer together than a real card's 16 bits tell apart.
    assert found.scores == pytest.approx(true.scores, abs=2e-3)


@pytest.mark.parametrize(("engine", "calls"), [(ScanningEngine, 1), (ApartEngine, 3)])
def test_all_segments_of_a_question_are_handed_over_at_once(many, engine, calls):
    made = []
    card = Card(lambda: made.append(engine()) or made[0])
    segments = cut(card, many, 3)
    asked = questions(9)
    assert nearest(segments, asked[0], 10).ids == nearest([many], asked[0], 10).ids
    assert made[0].calls == [1] * calls
    made[0].calls.clear()
    found = asked_while_the_card_is_busy(card, made[0], segments, asked)
    assert made[0].calls == [1] * calls + [8] * calls
    assert [ranked.ids for ranked in found] == [ranked.ids for ranked in nearest_each([many], asked, 3)]
    del segments[0]
    gc.collect()
    assert len(nearest(segments, asked[0], 10).ids) == 10
    card.close()


def asked_while_the_card_is_busy(card, engine, segments, asked):
    """The answers to all, of which all but the first came to wait together."""
    engine.gate.clear()
    engine.busy.clear()
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = [threads.submit(nearest, segments, asked[0], 3)]
        engine.busy.wait(5)
        answers += [threads.submit(nearest, segments, vector, 3) for vector in asked[1:]]
        while card.thread.waiting < len(asked) - 1:
            time.sleep(0.001)
        engine.gate.set()
        return [answer.result() for answer in answers]


def test_many_threads_get_each_their_own_answers(placed, plain):
    asked = questions(64)
    expected = [ranked.ids[0] for ranked in nearest_each([plain], asked, 1)]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda at: nearest([placed], asked[at], 1 + at % 3).ids, range(64)))
    assert [ids[0] for ids in found] == expected
    assert [len(ids) for ids in found] == [1 + at % 3 for at in range(64)]


def test_few_rows_stay_with_the_processor(card, plain):
    few = StoredVectors(plain.ids[:100], plain.stored[:100], {"kind": "flat"})
    assert card.place(few, Wanted()) is few


def test_what_waits_together_is_answered_in_one_call_by_the_one_thread(plain):
    made = []
    card = Card(lambda: made.append(ScanningEngine()) or made[0])
    placed = card.place(plain, Wanted())
    [engine] = made
    found = asked_while_the_card_is_busy(card, engine, [placed], questions(9))
    assert engine.calls == [1, 8]
    assert [ranked.ids for ranked in found] == [r.ids for r in nearest_each([plain], questions(9), 3)]
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads
    card.close()


def test_a_card_lets_go_of_what_nobody_uses(plain):
    card = Card(ScanningEngine)
    placed = card.place(plain, Wanted())
    assert len(card.thread.placed) == 1
    del placed
    gc.collect()
    card.thread.order(lambda engine: None)  # behind the one that lets go
    assert card.thread.placed == {}
    card.close()


def test_trouble_on_the_card_reaches_whoever_asked_and_no_one_else(plain):
    class Faulty(ScanningEngine):
        def search(self, index, queries, top, effort):
            if top == 7:
                raise RuntimeError("the card is on fire")
            return super().search(index, queries, top, effort)

    card = Card(Faulty)
    placed = card.place(plain, Wanted())
    with pytest.raises(RuntimeError, match="on fire"):
        nearest([placed], questions(1)[0], 7)
    assert len(nearest([placed], questions(1)[0], 5).ids) == 5
    card.close()


def test_an_engine_that_cannot_start_says_so_where_it_was_asked_for():
    def broken():
        raise IndexOptionRefused("no card")

    with pytest.raises(IndexOptionRefused, match="no card"):
        Card(broken)


def test_vectors_that_do_not_fit_are_refused(plain):
    class Small(ScanningEngine):
        memory_bytes = 1000

    card = Card(Small)
    with pytest.raises(IndexOptionRefused, match="device cpu"):
        card.place(plain, Wanted())
    card.close()
