"""A store is a dictionary, whatever happens to it: the law of add, update, remove, restart, crash."""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from indexer import ingest as ingesting
from indexer import schema
from indexer.catalogue import FILE, Catalogue
from indexer.compaction import merge, merge_when_many
from indexer.deleting import delete_document, delete_file, delete_store, find_file
from indexer.embedders import Embedders
from indexer.erasure import purge
from indexer.errors import UnknownFile, UnknownStore
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.migration import Bar, discard, migrate, rollback
from indexer.reading.reader import read
from indexer.search import Searcher
from indexer.splitting import Splitting
from indexer.syncing import leave
from indexer.verification import findings
from tests.indexer.conftest import Watching

WORDS = ("duck", "goose", "swan", "heron", "crane", "stork")
MODELS = (HashEmbedder(32, 64), HashEmbedder(48, 64))
ROWS = st.dictionaries(
    st.sampled_from([f"r{n}" for n in range(6)]),
    st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS), st.integers(0, 3)),
    max_size=6,
)
NAMES = st.sampled_from(["a.jsonl", "b.jsonl", "c.jsonl"])
BASE = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # what is synced there costs nothing
EMPTY = Path(tempfile.mkdtemp(dir=BASE))
_KILL = {"real": False}


def text_of(name: str, row: str, said: tuple[str, str, int]) -> str:
    return f"{name} {row} says {said[0]} {said[1]} v{said[2]}"


class Killed(Exception):
    """Stands for the end of the process."""


class Store(RuleBasedStateMachine):
    """`live` is what a search may find: file → row → text. `folder` is what the files say."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=BASE))
        self.data, self.folder = self.root / "data", self.root / "folder"
        self.data.mkdir()
        self.folder.mkdir()
        if not (EMPTY / FILE).exists():
            Catalogue(EMPTY).close()
        shutil.copy(EMPTY / FILE, self.data / FILE)
        self.live: dict[str, dict[str, str]] = {}
        self.written: dict[str, dict[str, str]] = {}
        self.read: dict[str, list[tuple[str, str]]] = {}  # files the store knows by digest
        self.contents: dict[str, list[tuple[str, str]]] = {}  # all that files ever said, by digest
        self.model = MODELS[0]
        self.moved = False  # there are vectors to go back to
        self.exists = False  # the store
        self.open()

    def open(self) -> None:
        self.catalogue = Catalogue(self.data)
        self.searcher = Searcher(self.data, Embedders(None, *MODELS))

    def shut(self) -> None:
        self.searcher.close()
        self.catalogue.close()

    def teardown(self) -> None:
        try:
            self.compare(WORDS[0], "hybrid")
            for store in self.catalogue.stores():
                assert list(findings(self.catalogue, store)) == []
        finally:
            self.shut()
            # A thread of tantivy that a crash left may put a lock file where this is at work.
            shutil.rmtree(self.root, ignore_errors=True)

    # What users do

    def write(self, name: str, rows: dict[str, tuple[str, str, int]]) -> None:
        self.written[name] = {row: text_of(name, row, said) for row, said in rows.items()}
        lines = [json.dumps({"id": row, "text": text}) for row, text in self.written[name].items()]
        (self.folder / name).write_text("\n".join(lines) + "\n")
        digest = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        self.contents[digest] = list(self.written[name].items())

    def known(self, name: str) -> None:
        """After a crash: what of the file was read to its end, whoever was told. It is not read again."""
        files, stores = schema.files, schema.stores
        query = (
            sa.select(files.c.state, files.c.sha256)
            .join(stores, stores.c.id == files.c.store_id)
            .where(stores.c.name == "docs", files.c.filename == name, files.c.state == "completed")
        )
        with self.catalogue.engine.connect() as connection:
            row = connection.execute(query).first()
        self.read.pop(name, None)
        if row is not None:
            self.read[name] = self.contents[row.sha256]

    def run(self, catalogue: Catalogue, name: str, watch: Watching) -> None:
        self.exists = True
        ingest(catalogue, "docs", [self.folder / name], self.model, read, Splitting(), watch)

    @rule(name=NAMES, rows=ROWS)
    def put(self, name, rows):
        self.write(name, rows)
        self.run(self.catalogue, name, Watching())
        self.completed(name)

    def completed(self, name: str) -> None:
        """An ingest of the file came to its end."""
        if not self.written[name]:  # it cannot be read: what was known of it stays
            self.read.pop(name, None)
        elif self.read.get(name) != list(self.written[name].items()):
            self.live[name] = dict(self.written[name])
            self.read[name] = list(self.written[name].items())
        # An unchanged file is not read again: a row that was deleted of it stays away.

    @rule(name=NAMES, rows=ROWS, at=st.integers(1, 5))
    def crash_while_putting(self, name, rows, at):
        before = self.live.get(name, {})
        self.write(name, rows)
        changed = [row for row, text in self.written[name].items() if before.get(row) != text]
        finished, published = (self.put_killed if _KILL["real"] else self.put_abandoned)(name, at)
        if finished:
            self.completed(name)
            return
        self.known(name)
        # What was acknowledged is there, perhaps more of what was tried, in its order and nothing else.
        present = self.present(name)
        for many in range(published, len(changed) + 1):
            if present == {**before, **{row: self.written[name][row] for row in changed[:many]}}:
                self.live[name] = present
                return
        if rows and present == self.written[name]:  # all of it, and only the word of it was lost
            self.live[name] = present
            return
        raise AssertionError(f"{present} is neither {before} nor on the way to {self.written[name]}")

    def present(self, name: str) -> dict[str, str]:
        documents, files, stores = schema.documents, schema.files, schema.stores
        query = (
            sa.select(documents.c.key, documents.c.text)
            .join(files, files.c.id == documents.c.file_id)
            .join(stores, stores.c.id == files.c.store_id)
            .where(stores.c.name == "docs", files.c.filename == name, documents.c.died.is_(None))
        )
        with self.catalogue.engine.connect() as connection:
            return {row.key: row.text for row in connection.execute(query)}

    def put_abandoned(self, name: str, at: int) -> tuple[bool, int]:
        """The files of a batch are written and its commit never comes; then a new process."""
        left = [at]
        watch = Watching()

        def strike(*_: object) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed

        sa.event.listen(self.catalogue.engine, "commit", strike)
        try:
            self.run(self.catalogue, name, watch)
            finished = True
        except Killed:
            finished = False
        sa.event.remove(self.catalogue.engine, "commit", strike)
        self.restart()
        self.exists = bool(self.catalogue.stores())
        return finished, sum(documents for _, documents, _ in watch.batches)

    def put_killed(self, name: str, at: int) -> tuple[bool, int]:
        """The same, with a process and SIGKILL."""
        self.shut()
        acknowledged = self.root / "acknowledged"
        acknowledged.write_text("0")
        child = os.fork()
        if not child:
            try:
                catalogue = Catalogue(self.data)
                watch = Watching()
                left = [at]

                def strike(*_: object) -> None:
                    left[0] -= 1
                    if not left[0]:
                        acknowledged.write_text(str(sum(many for _, many, _ in watch.batches)))
                        os.kill(os.getpid(), signal.SIGKILL)

                sa.event.listen(catalogue.engine, "commit", strike)
                self.run(catalogue, name, watch)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        self.open()
        self.exists = bool(self.catalogue.stores())
        return os.waitstatus_to_exitcode(status) == 0, int(acknowledged.read_text())

    @rule(name=NAMES)
    def delete_a_file(self, name):
        try:
            store = self.catalogue.store("docs")
            delete_file(self.catalogue, store, find_file(self.catalogue, store, name))
        except (UnknownStore, UnknownFile):
            assert not self.live.get(name)
        self.live.pop(name, None)
        self.read.pop(name, None)

    @precondition(lambda self: any(self.live.values()))
    @rule(data=st.data())
    def delete_a_row(self, data):
        name, row = data.draw(st.sampled_from([(n, r) for n, rows in self.live.items() for r in rows]))
        store = self.catalogue.store("docs")
        delete_document(self.catalogue, store, row, find_file(self.catalogue, store, name))
        del self.live[name][row]

    @precondition(lambda self: len(self.written) > 1 and self.exists)
    @rule(name=NAMES)
    def remove_and_sync(self, name):
        if not (self.folder / name).exists() or len(list(self.folder.iterdir())) < 2:
            return
        (self.folder / name).unlink()
        leave(self.catalogue, self.catalogue.store("docs"), [self.folder])
        self.written.pop(name)
        self.live.pop(name, None)
        self.read.pop(name, None)

    @precondition(lambda self: self.exists)
    @rule()
    def delete_the_store(self):
        delete_store(self.catalogue, self.catalogue.store("docs"))
        self.live, self.read, self.moved, self.exists = {}, {}, False, False

    # What happens to a store

    @rule()
    def restart(self):
        self.shut()
        self.open()

    @precondition(lambda self: self.exists)
    @rule(everything=st.booleans())
    def compact(self, everything):
        store = self.catalogue.store("docs")
        segments = self.catalogue.segments(store.current)
        if everything and segments:
            merge(self.catalogue, store, segments)
        else:
            merge_when_many(self.catalogue, store)

    @rule()
    def purge_all(self):
        purge(self.catalogue)

    @precondition(lambda self: self.exists and not self.moved)
    @rule()
    def move_to_the_other_model(self):
        other = MODELS[1 - MODELS.index(self.model)]
        migrate(self.catalogue, "docs", other, Bar(queries=3), lambda *_: None, self.model)
        self.model, self.moved = other, True

    @precondition(lambda self: self.moved)
    @rule(back=st.booleans())
    def go_back_or_drop(self, back):
        if back:
            rollback(self.catalogue, "docs", lambda series: MODELS[series.dimension == 48], lambda *_: None)
            self.model = MODELS[1 - MODELS.index(self.model)]
        discard(self.catalogue, "docs")
        self.moved = False

    @rule(word=st.sampled_from(WORDS), mode=st.sampled_from(["dense", "keyword", "hybrid"]))
    def compare(self, word, mode):
        expected = {text for rows in self.live.values() for text in rows.values()}
        if not self.exists:
            assert expected == set()
            return
        if mode == "keyword":
            expected = {text for text in expected if word in text.split()}
        hits = self.searcher.search(word, ["docs"], top=100, mode=mode).hits
        assert sorted(hit.text for hit in hits) == sorted(expected)


@pytest.mark.parametrize(
    ("examples", "steps", "real"),
    [
        (50, 20, False),
        pytest.param(
            int(os.environ.get("FEWSHOT_LAW_PROGRAMS", "2000")),  # in parts, side by side: --hypothesis-seed
            30,
            False,
            marks=[pytest.mark.slow, pytest.mark.timeout(7200)],
            id="many",
        ),
        pytest.param(100, 30, True, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
def test_a_store_is_a_dictionary(monkeypatch, examples, steps, real):
    monkeypatch.setattr(ingesting, "BATCH_CHUNKS", 2)
    monkeypatch.setattr(ingesting, "MOST_CHUNKS", 2)
    monkeypatch.setitem(_KILL, "real", real)
    run_state_machine_as_test(
        Store,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],  # a step costs a commit: shrinking would take hours
            suppress_health_check=list(HealthCheck),
        ),
    )
