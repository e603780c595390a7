"""What is indexed of a chunk is made in one place: ingest, compaction and the embedder agree on it."""

import numpy as np
import pytest

from indexer.compaction import indexed_texts, merge
from indexer.passages import embedded, indexed
from indexer.records import Hit

INTRO = "# Guide\n\n## Zephyr settings\n\nSee [the page](https://quux.example/deep) first.\n\n"
GUIDE = INTRO + "| knob | value |\n|---|---|\n" + "".join(f"| k{at} | v{at} |\n" for at in range(300))


def test_where_a_chunk_stands_and_its_table_header_are_indexed_but_no_link_targets():
    text = indexed("Guide", "see [it](http://x.y/z)", ("Guide", "Start"), "| a |\n")
    assert text == "Guide › Start\n| a |\nsee [it]"
    assert indexed("", "text") == "text"


def test_the_embedder_reads_what_the_keyword_leg_reads_when_all_of_it_fits(embedder):
    arguments = ("Guide", "see it", ("Start",), "| a |\n")
    assert embedded(*arguments, embedder) == indexed(*arguments)


def keyword_hits(searcher, query: str) -> list[tuple[Hit, float]]:
    return [(hit.chunk_id, hit.score) for hit in searcher.search(query, ["docs"], mode="keyword").hits]


@pytest.mark.parametrize("query", ["zephyr", "knob", "guide settings"])
def test_compaction_indexes_what_ingest_indexed(catalogue, folder, put, searcher, query):
    (folder / "guide.md").write_text(GUIDE)
    put()
    before = keyword_hits(searcher, query)
    store = catalogue.store("docs")
    assert len(before) > 3
    merge(catalogue, store, catalogue.segments(store.current))
    assert keyword_hits(searcher, query) == before


def test_compaction_makes_the_texts_that_ingest_made(catalogue, folder, put):
    (folder / "guide.md").write_text(GUIDE)
    put()
    texts = indexed_texts(catalogue, np.arange(1, 5, dtype=np.int64))
    assert all(text.startswith("Guide › Zephyr settings\n") for text in texts)
    assert [text.count("knob") for text in texts] == [0, 1, 1, 1]
    assert "[the page] first" in texts[0]
