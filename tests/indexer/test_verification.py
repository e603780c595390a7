"""Damage is found and said, never searched."""

import pytest
import sqlalchemy as sa

from indexer.database import writing
from indexer.errors import StoreBusy, StoreDamaged
from indexer.publishing import writer
from indexer.segments import stores_folder
from indexer.verification import findings


@pytest.fixture
def segment(folder, put, catalogue):
    """The folder of the only segment of a store with two documents."""
    (folder / "a.txt").write_text("one document")
    (folder / "b.txt").write_text("another document")
    put()
    store = catalogue.store("docs")
    [only] = catalogue.generation(store.id).segments
    return stores_folder(catalogue.data, store.id) / only.id


def test_every_altered_or_missing_file_is_found_and_refused(segment, catalogue, searcher):
    store = catalogue.store("docs")
    assert list(findings(catalogue, store)) == []
    files = [path for path in segment.rglob("*") if path.is_file() and path.stat().st_size]
    files = [path for path in files if path.name != "manifest.json"]
    assert len(files) >= 3
    for path in files:
        kept = path.read_bytes()
        for damaged in (kept[:-1] + bytes([kept[-1] ^ 1]), kept[:-1], None):
            path.write_bytes(damaged) if damaged is not None else path.unlink()
            assert any(path.name in sentence for sentence in findings(catalogue, store))
            with pytest.raises(StoreDamaged, match=path.name):
                searcher.search("document", ["docs"])
            path.write_bytes(kept)
    assert len(searcher.search("document", ["docs"]).hits) == 2


def test_a_row_without_its_vector_is_found(segment, catalogue):
    with writing(catalogue.engine) as connection:
        connection.execute(sa.text("UPDATE chunks SET id = id + 100 WHERE id = 1"))
    sentences = list(findings(catalogue, catalogue.store("docs")))
    assert any("in no segment" in sentence for sentence in sentences)
    assert any("not in the catalogue" in sentence for sentence in sentences)


def test_text_that_left_its_offsets_is_found(segment, catalogue):
    with writing(catalogue.engine) as connection:
        connection.execute(sa.text("UPDATE documents SET text = 'X' || text WHERE id = 1"))
    assert any("offsets" in sentence for sentence in findings(catalogue, catalogue.store("docs")))


def test_a_second_writer_is_refused_and_leftovers_are_removed(segment, catalogue, put):
    store = catalogue.store("docs")
    (segment.parent / ".tmp-dead").mkdir()
    (segment.parent / "01UNPUBLISHED").mkdir()
    with writer(catalogue, store):
        assert sorted(path.name for path in segment.parent.iterdir() if path.is_dir()) == [segment.name]
        with pytest.raises(StoreBusy, match="docs"):
            put()
