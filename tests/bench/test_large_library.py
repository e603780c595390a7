"""The store that is written side by side is the one that the same passages would be ingested into."""

from pathlib import Path

import pytest

from bench.large_library import write
from bench.library import STORE, Chance, fill, passage
from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.search import Searcher
from indexer.verification import findings

PASSAGES = 60


@pytest.fixture(scope="module")
def embedder():
    return Chance(open_embedder("hash", Path()))


@pytest.fixture(scope="module")
def written(tmp_path_factory, embedder):
    folder = tmp_path_factory.mktemp("written")
    write(folder, PASSAGES, embedder)
    return folder


def found(data, embedder, number, mode):
    searcher = Searcher(data, embedder)
    try:
        hits = searcher.search(" ".join(passage(number).split()[:20]), [STORE], top=5, mode=mode).hits
        return [(hit.text, hit.external_id) for hit in hits]
    finally:
        searcher.close()


def test_each_leg_finds_what_it_finds_in_an_ingested_store(tmp_path, written, embedder):
    fill(tmp_path, PASSAGES, embedder, lambda line: None)
    for number in (0, 31, 59):
        assert found(written, embedder, number, "dense") == found(tmp_path, embedder, number, "dense")
        for data in (written, tmp_path):  # each segment has its own mean length: scores differ a little
            assert found(data, embedder, number, "keyword")[0] == (passage(number), str(number))


def test_it_is_whole(written):
    catalogue = Catalogue(written)
    try:
        store = catalogue.store(STORE)
        segments = catalogue.generation(store.id).segments
        assert sorted(segment.chunks for segment in segments) == [8, 8, 8, 9, 9, 9, 9]
        counts = catalogue.counts(store)
        assert (counts.files, counts.documents, counts.chunks) == (1, PASSAGES, PASSAGES)
        assert list(findings(catalogue, store)) == []
    finally:
        catalogue.close()
