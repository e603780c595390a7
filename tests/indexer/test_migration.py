"""Another embedding model while the store is searched: all of the old vectors, or all of the new."""

import json
import subprocess
import sys
import threading
import time
from itertools import count

import pytest
from click.testing import CliRunner

from indexer import gathering
from indexer.catalogue import Catalogue
from indexer.commands.stores import stores
from indexer.deleting import delete_document, delete_store
from indexer.embedders import Embedders
from indexer.erasure import purge
from indexer.errors import EmbedderMismatch, MigrationRefused
from indexer.hash_embedder import HashEmbedder
from indexer.migration import Bar, discard, migrate, rollback
from indexer.search import Searcher
from indexer.segments import open_segment
from indexer.verification import findings
from indexer.windows import Windowed

OTHER = HashEmbedder(96, 64)


def silent(done: int, of: int) -> None:
    return None


@pytest.fixture
def filled(put, folder):
    lines = [json.dumps({"id": str(n), "text": f"row {n} of the pond number {n % 7}"}) for n in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    put()
    return lines


@pytest.fixture
def both(data, embedder):
    """A searcher that has the old and the new model."""
    searcher = Searcher(data, Embedders(None, embedder, OTHER))
    yield searcher
    searcher.close()


def found(searcher) -> list[str]:
    return [hit.external_id for hit in searcher.search("row 7 of the pond", ["docs"], mode="dense").hits]


def test_a_migrated_store_is_searched_by_the_new_model_and_rolls_back(filled, catalogue, both, embedder):
    before = found(both)
    done = migrate(catalogue, "docs", OTHER, Bar(queries=20), silent, embedder)
    assert done.chunks == 60
    assert done.measured.recall == done.measured.faithful == 1.0
    assert 0 < done.measured.overlap <= 1
    store = catalogue.store("docs")
    assert (store.embedder_digest, store.dimension, store.generation) == (OTHER.digest, 96, done.generation)
    generation = catalogue.generation(store.id)
    assert (generation.embedder_digest, generation.dimension, generation.series) == (
        OTHER.digest,
        96,
        store.series,
    )
    assert "7" in found(both)
    assert list(findings(catalogue, store)) == []
    back = rollback(catalogue, "docs", lambda series: pytest.fail("nothing is missing"), silent)
    assert back.chunks == 0
    assert found(both) == before
    assert catalogue.store("docs").embedder_digest == embedder.digest
    again = migrate(catalogue, "docs", OTHER, Bar(queries=20), silent)
    assert (again.chunks, again.measured.overlap) == (0, None)
    assert discard(catalogue, "docs").embedder_digest == embedder.digest
    assert discard(catalogue, "docs") is None
    with pytest.raises(MigrationRefused, match="no earlier vectors"):
        rollback(catalogue, "docs", lambda series: OTHER, silent)
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    assert "7" in found(both)


def test_what_is_ingested_or_deleted_after_a_switch_is_right_after_a_rollback(
    filled, put, folder, catalogue, both, embedder, data
):
    migrate(catalogue, "docs", OTHER, Bar(queries=5), silent)
    with pytest.raises(EmbedderMismatch):
        put()
    (folder / "more.jsonl").write_text(json.dumps({"id": "new", "text": "a new row of the pond"}))
    put(by=OTHER)
    delete_document(catalogue, catalogue.store("docs"), "7")
    back = rollback(catalogue, "docs", lambda series: embedder, silent)
    assert back.chunks == 1
    ids = {hit.external_id for hit in both.search("row of the pond", ["docs"], top=100).hits}
    assert "new" in ids
    assert "7" not in ids
    purge(catalogue)
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    for series in catalogue.series(catalogue.store("docs").id):
        segments = [open_segment(data, segment, series.dimension) for segment in catalogue.segments(series)]
        assert sum(len(segment.vectors.ids) for segment in segments) == 60


def test_a_chunk_longer_than_the_new_window_is_refused_by_name(filled, catalogue, embedder):
    with pytest.raises(MigrationRefused, match=r"60 of 60 chunks .* longer than the 6 tokens .* new store"):
        migrate(catalogue, "docs", HashEmbedder(32, 6), Bar(), silent)
    assert catalogue.store("docs").embedder_digest == embedder.digest


def test_chunks_longer_than_the_window_by_choice_move_in_several_windows(filled, catalogue, embedder):
    small = Windowed(HashEmbedder(32, 6))
    done = migrate(catalogue, "docs", small, Bar(queries=5), silent, embedder)
    assert (done.chunks, done.measured.faithful) == (60, 1.0)


def test_vectors_that_miss_the_bar_are_not_searched(filled, catalogue, embedder):
    class Moody(HashEmbedder):
        """Says something else of the same text each time."""

        turn = count(1)

        def passages(self, texts):
            turn = next(self.turn)
            return super().passages([" ".join(f"{word}{turn}" for word in text.split()) for text in texts])

    with pytest.raises(MigrationRefused, match="nothing was switched"):
        migrate(catalogue, "docs", Moody(48, 64), Bar(queries=10), silent)
    assert catalogue.store("docs").embedder_digest == embedder.digest
    assert discard(catalogue, "docs").dimension == 48


def test_a_third_model_waits_until_the_first_is_dropped(filled, catalogue):
    migrate(catalogue, "docs", OTHER, Bar(queries=5), silent)
    with pytest.raises(MigrationRefused, match="searched by hash already"):
        migrate(catalogue, "docs", OTHER, Bar(), silent)
    with pytest.raises(MigrationRefused, match="fewshot stores discard docs"):
        migrate(catalogue, "docs", HashEmbedder(32, 64), Bar(), silent)


def test_a_killed_migration_goes_on_where_it_stopped(filled, data, catalogue, monkeypatch):
    program = (
        "import sys; from pathlib import Path; from indexer import gathering, migration\n"
        "from indexer.catalogue import Catalogue; from indexer.hash_embedder import HashEmbedder\n"
        "import os; gathering.BATCH_CHUNKS = 10\n"
        "def tell(done, of):\n    if done == 30: os.kill(os.getpid(), 9)\n"
        "migration.migrate(Catalogue(Path(sys.argv[1])), 'docs', HashEmbedder(96, 64), migration.Bar(), tell)"
    )
    assert subprocess.run([sys.executable, "-c", program, data], check=False).returncode == -9
    store = catalogue.store("docs")
    assert store.dimension == 64
    told: list[tuple[int, int]] = []
    done = migrate(catalogue, "docs", OTHER, Bar(queries=5), lambda *so_far: told.append(so_far))
    assert told[0][1] == done.chunks == 30


def test_an_ingest_during_the_gathering_is_in_both(filled, put, folder, catalogue, both, monkeypatch):
    monkeypatch.setattr(gathering, "BATCH_CHUNKS", 10)
    waiting = iter([True])

    def tell(done: int, of: int) -> None:
        if next(waiting, False):
            (folder / "more.jsonl").write_text(json.dumps({"id": "new", "text": "a new row of the pond"}))
            put()
            delete_document(catalogue, catalogue.store("docs"), "8")

    migrate(catalogue, "docs", OTHER, Bar(queries=5), tell)
    ids = {hit.external_id for hit in both.search("row of the pond", ["docs"], top=100).hits}
    assert ids == {str(n) for n in range(60) if n != 8} | {"new"}
    assert list(findings(catalogue, catalogue.store("docs"))) == []


def test_a_deleted_store_takes_both_series_with_it(filled, catalogue, data):
    migrate(catalogue, "docs", OTHER, Bar(queries=5), silent)
    delete_store(catalogue, catalogue.store("docs"))
    purge(catalogue)
    assert list((data / "stores").iterdir()) == []


@pytest.mark.parametrize(
    "chunks", [300, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_searches_at_twenty_a_second_meet_no_error_and_no_mixture(put, folder, data, chunks, embedder):
    lines = [json.dumps({"id": str(n), "text": f"row {n} of the pond number {n % 7}"}) for n in range(chunks)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    put()
    catalogue, searcher = Catalogue(data), Searcher(data, Embedders(None, embedder, OTHER))
    of_generation: dict[int, str] = {}
    exact = {}
    for model in (embedder, OTHER):
        rows = model.passages([f"row {n} of the pond number {n % 7}" for n in range(chunks)])
        exact[model.digest] = rows @ model.query("row 7 of the pond number 0")
    wrong: list[object] = []
    seen: list[int] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            began = time.monotonic()
            try:
                hits = searcher.search("row 7 of the pond number 0", ["docs"], mode="dense", top=5)
                seen.append(next(iter(hits.generations.values())))
                ranks = tuple(int(hit.external_id or 0) for hit in hits.hits)
                answers.append((seen[-1], ranks))
            except Exception as error:
                wrong.append(error)
            time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))

    answers: list[tuple[int, tuple[int, ...]]] = []
    thread = threading.Thread(target=search)
    thread.start()
    first = migrate(catalogue, "docs", OTHER, Bar(queries=20), silent, embedder)
    time.sleep(0.2)
    second = rollback(catalogue, "docs", lambda series: embedder, silent)
    time.sleep(0.2)
    done.set()
    thread.join()
    assert wrong == []
    for number, ranks in answers:
        model = OTHER if first.generation <= number < second.generation else embedder
        scores = exact[model.digest]
        best = sorted(scores, reverse=True)[:5]
        assert sorted((scores[row] for row in ranks), reverse=True) == pytest.approx(best, abs=1e-3), number
        of_generation[number] = model.digest
    assert set(of_generation.values()) == {embedder.digest, OTHER.digest}
    assert {first.generation, second.generation} <= set(seen)
    searcher.close()
    catalogue.close()


def test_the_commands_move_a_store_and_back(filled, data, tmp_path):
    def call(*arguments: str):
        return CliRunner().invoke(stores, [*arguments, "--data", str(data)])

    models = tmp_path / "none"
    refused = call("migrate", "docs", "--embedder", "nowhere", "--cache", str(models))
    assert refused.exit_code == 1
    assert "nowhere" in refused.stderr
    done = call("migrate", "docs", "--embedder", "hash", "--verify-queries", "10", "--cache", str(models))
    assert done.exit_code == 0, done.output
    assert "10 questions: recall 1.000, vectors 1.000" in done.stdout
    assert "dimension 256: 60 chunks in 1 segments, searched" in call("show", "docs").stdout
    assert call("rollback", "docs").exit_code == 0
    assert "dimension 64: 60 chunks in 1 segments, searched" in call("show", "docs").stdout
    assert "the vectors by hash are gone" in call("discard", "docs").stdout
    assert "no earlier vectors" in call("rollback", "docs").stderr
