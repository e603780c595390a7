"""A question's reading, whoever reads which texts first."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from indexer import fusion
from indexer.hash_embedder import HashEmbedder
from indexer.legs import untold
from indexer.records import Ranked
from indexer.wording import Wording, read_ahead

QUESTION = "common number7 of colour3"


@pytest.fixture
def engine(folder, put, catalogue):
    for n in range(60):
        (folder / f"{n}.txt").write_text(f"common words and number{n} of colour{n % 7}, " * (1 + n % 5))
    put()
    return catalogue.engine


def test_what_several_threads_read_at_once_is_as_close_as_what_one_reads(engine):
    ids = range(1, 70)  # of the last ones there is nothing
    alone = Wording(engine, QUESTION).closeness(ids)
    assert len(alone) == 60
    assert len(set(alone.values())) > 5
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            together = Wording(engine, QUESTION)
            list(threads.map(together.read, [ids[at : at + 30] for at in range(0, 60, 5)]))
            assert together.closeness(ids) == alone


def test_the_keyword_leg_reads_ahead_only_while_nobody_waits_for_it(engine):
    embedder, ranked = HashEmbedder(64), Ranked(tuple(range(1, 21)), tuple(range(20, 0, -1)))
    for awaited, read in ((False, 20), (True, 0)):
        wording = Wording(engine, QUESTION)
        wording.awaited = awaited
        told = read_ahead(lambda: (ranked, 30.0), wording, embedder, untold)
        assert told == (fusion.Keyword(ranked, 30.0), embedder.grasp(QUESTION))
        assert len(wording._at) == read
        assert wording.closeness(ranked.ids) == Wording(engine, QUESTION).closeness(ranked.ids)
