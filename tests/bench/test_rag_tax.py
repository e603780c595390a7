"""G4 over a small store and the echo: the whole way of its measurement."""

import asyncio
from collections import Counter
from pathlib import Path

from bench.goals.rag_tax import MODES, PARTS, Effort, measure_on, settings_for
from bench.host import host
from bench.library import STORE, fill, passage, questions
from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder

PASSAGES = 40


def test_every_passage_is_one_chunk_and_every_request_finds_five(tmp_path):
    embedder = open_embedder("hash", Path())
    fill(tmp_path, PASSAGES, embedder, lambda line: None)
    catalogue = Catalogue(tmp_path)
    segments = catalogue.generation(catalogue.store(STORE).id).segments
    catalogue.close()
    assert sum(segment.chunks for segment in segments) == PASSAGES
    effort = Effort(rounds=1, requests=2, passages=PASSAGES)
    with host(settings_for(tmp_path, {"kind": "echo"}, "hash")) as engine:
        found = asyncio.run(measure_on(engine, tmp_path, embedder, effort, lambda line: None))
    assert {check.name: check.passed for check in found.checks}["every answer is whole and has its sources"]
    assert set(found.arms) == {"ours, hybrid", "ours, vector", "bare parts"}
    assert set(found.arms["bare parts"]) == set(PARTS)
    added = {bar.name: bar for bar in found.bars}
    for mode in MODES:
        assert 0 < added[f"{mode}: added before the engine, median"].measured.value < 10_000
    limits = [bar.must for bar in found.bars if "÷ (" in bar.name]
    assert limits == [1.25, None]  # the product's own mode is judged


def test_some_passages_are_asked_for_far_more_often_than_others():
    asked = questions(1000, 400, seed=1)
    assert asked == questions(1000, 400, seed=1) != questions(1000, 400, seed=2)
    ones = Counter(question.split()[-1] for question in asked)
    assert ones["case0"] > 400 / 20 > ones["case500"]
    assert all(
        set(question.split()) <= set(passage(int(question.split()[-1][4:])).split()) for question in asked
    )
