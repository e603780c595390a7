"""Searches off the event loop: one at a time, and nothing quick waits for something slow."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from indexer.embedders import Embedders
from indexer.hash_embedder import HashEmbedder
from indexer.search import Searcher
from server.errors import RetrievalUnavailable
from server.records import Search
from server.retrieval import IndexRetriever, Turn

SEARCH = Search(stores=("facts",))


class Waiting(HashEmbedder):
    """Questions about snails are embedded when they are let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.let_go = threading.Event(), threading.Event()

    def query(self, text):
        if "snail" in text:
            self.begun.set()
            self.let_go.wait(10)
        return super().query(text)


@pytest.fixture
def slow(data):
    embedder = Waiting()
    retriever = IndexRetriever(Searcher(data, Embedders(None, embedder)), timeout_seconds=5, threads=2)
    yield embedder, retriever
    embedder.let_go.set()
    retriever.close()


def test_a_slow_search_holds_no_quick_one_up(slow):
    embedder, retriever = slow

    async def both():
        snail = asyncio.create_task(retriever.search("How slow is a snail?", SEARCH, top=2))
        await asyncio.to_thread(embedder.begun.wait, 5)
        quick = await retriever.search("How long do cats sleep?", SEARCH, top=2)
        waited = not snail.done()
        embedder.let_go.set()
        return waited, quick, await snail

    waited, quick, snail = asyncio.run(both())
    assert waited
    assert quick.hits
    assert snail.hits


def test_the_turn_of_a_search_that_failed_is_the_next_ones(slow):
    _, retriever = slow

    def refuse(_):
        raise RetrievalUnavailable("not now", retry_after_seconds=1)

    async def ask():
        for _ in range(3):
            with pytest.raises(RetrievalUnavailable, match="not now"):
                await retriever.search_then("cats?", SEARCH, top=2, then=refuse)
        return retriever._turn._free.locked()

    assert not asyncio.run(ask())


def test_turns_never_overlap_while_each_is_short():
    turn, inside, most = Turn(patience_seconds=10), [0], [0]

    def one(_):
        with turn.taken():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
    assert most == [1]


def test_who_lost_patience_does_not_end_anothers_turn():
    turn = Turn(patience_seconds=0.001)

    def impatient():
        with turn.taken():
            pass

    with turn.taken():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(impatient).result()
        assert turn._free.locked()
    assert not turn._free.locked()
