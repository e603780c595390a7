"""Many at once on one store: readers beside publications, writers beside writers, recall through it all."""

import json
import multiprocessing
import threading
import time

import numpy as np
import pytest
import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.compaction import merge
from indexer.database import writing
from indexer.deleting import delete_file, find_file
from indexer.erasure import purge
from indexer.errors import StoreBusy
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.reading.reader import read
from indexer.search import Searcher
from indexer.splitting import Splitting
from indexer.verification import findings
from tests.indexer.conftest import Watching

ROWS = 12
PUBLICATIONS = [pytest.param(8), pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
SECONDS = [pytest.param(1), pytest.param(120, marks=pytest.mark.slow)]
SIZES = [pytest.param(600), pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


def version(number):
    """All rows of the file say which version they are of."""
    return "".join(
        json.dumps({"id": str(row), "text": f"row {row} swims, version {number}"}) + "\n"
        for row in range(ROWS)
    )


@pytest.mark.parametrize("many", PUBLICATIONS)
def test_every_answer_is_of_one_generation_however_often_a_new_one_comes(put, folder, data, many):
    file = folder / "rows.jsonl"
    file.write_text(version(0))
    put()
    published, wrong, answers = [0], [], [0] * 4
    done = threading.Event()
    searcher = Searcher(data, HashEmbedder(64, 64))

    def look(reader: int) -> None:
        mode = ("keyword", "dense", "hybrid")[reader % 3]
        while not done.is_set():
            since = published[-1]
            try:
                hits = searcher.search("row swims version", ["docs"], mode=mode, top=ROWS).hits
            except Exception as problem:
                wrong.append(f"{mode}: {problem!r}")
                continue
            seen = {int(hit.text.rsplit(" ", 1)[1]) for hit in hits}
            if len(seen) != 1 or len(hits) != ROWS or min(seen) < since:
                wrong.append(f"{mode}: {len(hits)} hits of versions {sorted(seen)}, {since} was published")
            answers[reader] += 1
            time.sleep(0.005)  # or the one that publishes would wait for the interpreter

    readers = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, many + 1):
        file.write_text(version(number))
        put()
        published.append(number)
    done.set()
    for reader in readers:
        reader.join()
    searcher.close()
    assert wrong == []
    assert min(answers) > 0


def _write(data, name, seconds, said):
    """Another process: documents into its own store and, when its turn comes, into the one of all."""
    catalogue = Catalogue(data)
    embedder, written, busy = HashEmbedder(), {name: 0, "shared": 0}, 0
    until = None  # the clock runs from the first time that all is written
    try:
        while until is None or time.time() < until:
            for store in (name, "shared"):
                source = data.parent / f"{name}-{store}.jsonl"
                rows = [{"id": f"{name}-{n}", "text": f"{name} wrote {n}"} for n in range(written[store] + 1)]
                source.write_text("".join(json.dumps(row) + "\n" for row in rows))
                try:
                    ingest(catalogue, store, [source], embedder, read, Splitting(), Watching())
                    written[store] += 1
                except StoreBusy:
                    busy += 1
            if until is None and min(written.values()):
                until = time.time() + seconds
        said.put((name, written, busy, ""))
    except BaseException as problem:
        said.put((name, written, busy, repr(problem)))
    finally:
        catalogue.close()


@pytest.mark.parametrize("seconds", SECONDS)
def test_two_writers_and_a_checkpointer_lose_nothing_and_only_wait(tmp_path, seconds):
    data = tmp_path / "data"
    catalogue = Catalogue(data)
    processes = multiprocessing.get_context("spawn")
    said = processes.Queue()
    writers = [processes.Process(target=_write, args=(data, name, seconds, said)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    checkpoints = 0
    while any(writer.is_alive() for writer in writers):
        with catalogue.engine.connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM chunks")).scalar_one()
        with writing(catalogue.engine) as connection:
            connection.execute(sa.update(schema.counters).values(next=schema.counters.c.next))
        raw = catalogue.engine.raw_connection()
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        raw.close()
        checkpoints += 1
        time.sleep(0.02)
    told = [said.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join(60)
    assert [problem for *_, problem in told if problem] == []
    assert checkpoints > 5
    for name, written, _, _ in told:
        assert min(written[name], written["shared"]) > 0
    for store in catalogue.stores():
        assert list(findings(catalogue, store)) == []
        wanted = [
            f"{name}-{n}"
            for name, written, *_ in told
            if store.name in (name, "shared")
            for n in range(written[store.name])
        ]
        assert {row for row, _ in known(catalogue, store)} >= set(wanted)
    with catalogue.engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA integrity_check")).scalar_one() == "ok"
    catalogue.close()


def known(catalogue, store):
    chunks, documents = schema.chunks, schema.documents
    query = sa.select(documents.c.external_id, chunks.c.id).join(documents)
    with catalogue.engine.connect() as connection:
        mine = query.where(chunks.c.store_id == store.id, chunks.c.died.is_(None))
        return [(row.external_id, row.id) for row in connection.execute(mine)]


class Given(HashEmbedder):
    """Vectors that are looked up by the number in a text: clusters, as real embeddings have them."""

    def __init__(self, rows):
        super().__init__(rows.shape[1], 64)
        self._rows = rows

    def passages(self, texts):
        return self._rows[[int(text.rsplit(" ", 1)[1]) for text in texts]]

    queries = passages


@pytest.mark.parametrize("size", SIZES)
def test_recall_is_the_same_after_a_restart_a_third_of_deletes_and_a_compaction(put, folder, data, size):
    draw = np.random.default_rng(3)
    rows = draw.normal(size=(size // 50, 64))[draw.integers(size // 50, size=size)]
    rows = rows + draw.normal(0, 0.4, size=rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    embedder = Given(rows)
    lines = [json.dumps({"id": str(n), "text": f"row number {n}"}) for n in range(size)]
    for at in range(3):
        (folder / f"{at}.jsonl").write_text("\n".join(lines[at::3]))
        put(folder / f"{at}.jsonl", by=embedder)
    asked = draw.choice(size, 60, replace=False).tolist()

    def recall(gone):
        searcher = Searcher(data, embedder)
        live = np.array([n for n in range(size) if n not in gone])
        found = 0
        for question in asked:
            best = set(live[np.argsort(-(rows[live] @ rows[question]), kind="stable")[:10]].tolist())
            hits = searcher.search(f"row number {question}", ["docs"], mode="dense", top=10).hits
            ids = {int(hit.external_id) for hit in hits}
            assert not ids & gone
            assert len(ids) == 10
            found += len(ids & best)
        searcher.close()
        return found / (10 * len(asked))

    before = recall(set())
    assert before >= 0.95
    assert recall(set()) == before  # a searcher of its own: a restart
    catalogue = Catalogue(data)
    store = catalogue.store("docs")
    gone = set(range(0, size, 3))
    delete_file(catalogue, store, find_file(catalogue, store, "0.jsonl"))
    assert recall(gone) >= before - 0.001
    merge(catalogue, store, catalogue.segments(store.current))
    assert recall(gone) >= before - 0.001
    purge(catalogue, store)
    assert recall(gone) >= before - 0.001
    assert list(findings(catalogue, catalogue.store("docs"))) == []
    catalogue.close()
