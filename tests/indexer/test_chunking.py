"""How documents are cut is written, checked and kept with the store."""

import pytest

from indexer.chunking import Chunking, of_options, parsed, settle
from indexer.errors import ChunkingRefused


@pytest.mark.parametrize(
    ("text", "chunking"),
    [
        ("auto", Chunking()),
        ("auto:200", Chunking("auto", 200)),
        ("static", Chunking("static", 800, 400)),
        ("static:800/400", Chunking("static", 800, 400)),
        ("static:512/0", Chunking("static", 512, 0)),
        ("parent", Chunking("parent", 128, parent_tokens=512)),
        (" Parent:64/300", Chunking("parent", 64, parent_tokens=300)),
    ],
)
def test_the_notation_is_read_and_written(text, chunking):
    assert parsed(text) == chunking
    assert parsed(str(chunking)) == chunking
    assert of_options({"chunking": chunking.as_options()}) == chunking


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("semantic", "no way to cut documents: write auto, static:800/400"),
        ("auto:1/2", "write auto"),
        ("static:99/0", "100 to 4096"),
        ("static:5000", "100 to 4096"),
        ("static:800/401", "at most half of the chunk's 800"),
        ("parent:8/100", "16 or more"),
        ("parent:200/100", "at least as many"),
        ("parent:128/9999", "at most 4096"),
        ("auto:9999", "16 to 4096"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_with_the_way_out(text, says):
    with pytest.raises(ChunkingRefused, match=says):
        parsed(text)


def test_numbers_of_another_strategy_are_refused():
    with pytest.raises(ChunkingRefused, match="only static"):
        Chunking("auto", overlap_tokens=4)
    with pytest.raises(ChunkingRefused, match="only the strategy parent"):
        Chunking("static", 800, 400, 900)
    with pytest.raises(ChunkingRefused, match="no chunking strategy"):
        Chunking("semantic")


def test_a_store_keeps_the_chunking_it_began_with(catalogue, embedder, folder, put):
    asked = Chunking("static", 100, 20)
    store = catalogue.claim("docs", embedder)
    assert settle(catalogue, store, None) == Chunking()
    assert settle(catalogue, store, asked) == asked
    (folder / "a.txt").write_text("some words")
    put()
    assert settle(catalogue, store, None) == asked
    assert settle(catalogue, store, asked) == asked
    with pytest.raises(ChunkingRefused, match="cut as static:100/20, not parent:128/512: leave the chunking"):
        settle(catalogue, store, parsed("parent"))
