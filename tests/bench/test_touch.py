"""One document in and out of a small store, as `bench touch` does it with a large one."""

import asyncio
from pathlib import Path

from bench.goals.touch import Effort, measure
from bench.library import fill
from indexer.embedding import open_embedder


def test_what_is_added_is_found_and_what_is_deleted_is_not(tmp_path):
    embedder = open_embedder("hash", Path())
    fill(tmp_path, 30, embedder, lambda line: None)
    effort = Effort(documents=2, openings=1, passages=30)
    found = asyncio.run(measure(tmp_path, embedder, effort, lambda line: None))
    assert all(check.passed for check in found.checks)
    bars = {bar.name: bar for bar in found.bars}
    assert (
        bars["add, until a search finds it"].measured.value
        > bars["of the add: the search that finds it"].measured.value
        > 0
    )
    assert bars["delete, when the call returns"].must == 5.0
    assert bars["opening (first answer less the next) ÷ reading"].must is None  # of a store so small
