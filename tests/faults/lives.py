"""What users do to a data folder in a random order, and what they may find there afterwards.

What is promised is a flat dictionary: of a row, an upload, an attachment or what was read of it, the text.
Every act turns one dictionary into another; whoever is killed in an act leaves one, the other, or, where an
act is made of several documents, some of these of the one and the rest of the other.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from indexer import attachments, deleting, erasure, ownership, schema, uploads
from indexer import ingest as ingesting
from indexer.backlog import Backlog
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.embedders import Embedders
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.reading.reader import read
from indexer.search import Searcher
from indexer.splitting import Splitting
from indexer.verification import findings
from tests.faults.programs import strays, uploaded
from tests.indexer.conftest import Watching

TENANT = "t"
SERVED = "vs_01ARZ3NDEKTSV4RRFFQ69G5FAV"  # the store that uploads are attached to
FILES = ("pond", "river", "lake", "brook", "delta", "marsh")
BATCH = 4  # documents published together, so that one ingest is several publications
WHOLE = {"delete", "strike", "drop", "upload", "attach", "remove", "purge"}  # happen at once or not at all

Held = dict[str, str]


class Act(NamedTuple):
    """One thing that somebody does."""

    kind: str
    store: str = ""
    name: str = ""
    texts: tuple[tuple[str, str], ...] = ()  # of a file: ids of its rows and what they say

    @property
    def rows(self) -> dict[str, str]:
        return dict(self.texts)


def choose(chance: random.Random, held: Held, number: int) -> Act:
    """What to do next to a folder that holds this; `number` is unlike any before, and makes texts new."""
    kind = chance.choices(
        ("ingest", "delete", "strike", "drop", "upload", "attach", "work", "remove", "purge"),
        (50, 7, 7, 2, 10, 10, 8, 3, 3),
    )[0]
    rows = sorted(key for key in held if key.startswith("row:"))
    kept = sorted(key.removeprefix("upload:") for key in held if key.startswith("upload:"))
    match kind:
        case "delete" | "strike" | "drop" if rows:
            store, name, row = chance.choice(rows).removeprefix("row:").split("/")
            return Act(kind, store, row if kind == "strike" else name)
        case "attach" | "remove" if kept:
            return Act(kind, SERVED, chance.choice(kept))
        case "upload":
            name = f"file-{number:026d}"
            return Act(kind, "", name, (("", f"Upload {number} tells of water."),))
        case "work" | "purge":
            return Act(kind)
    store, name = chance.choice("ab"), chance.choice(FILES)
    many = chance.randint(1, 12)
    new: dict[str, str] = {}
    for row in range(many):
        key = f"{name}-{row}"
        old = held.get(f"row:{store}/{name}/{key}")
        changed = old is None or row == 0 or chance.random() < 0.5
        new[key] = f"Row {row} of {name} is water, version {number}." if changed else str(old)
    return Act("ingest", store, name, tuple(new.items()))


def after(held: Held, act: Act) -> Held:
    """What is promised once the act is acknowledged."""
    match act.kind:
        case "ingest":
            mine = f"row:{act.store}/{act.name}/"
            rest = _without(held, lambda key: key.startswith(mine))
            return rest | {mine + row: text for row, text in act.rows.items()}
        case "delete":
            return _without(held, lambda key: key.startswith(f"row:{act.store}/{act.name}/"))
        case "strike":
            gone = f"/{act.name}"
            return _without(held, lambda key: key.startswith(f"row:{act.store}/") and key.endswith(gone))
        case "drop":
            return _without(held, lambda key: key.startswith(f"row:{act.store}/"))
        case "upload":
            return held | {f"upload:{act.name}": act.rows[""]}
        case "attach":
            return held | {f"attached:{act.name}": held[f"upload:{act.name}"]}
        case "work":
            waiting = {key: text for key, text in held.items() if key.startswith("attached:")}
            return held | {key.replace("attached:", "read:"): text for key, text in waiting.items()}
        case "remove":
            return _without(held, lambda key: key.endswith(f":{act.name}"))
    return held


def wrong(before: Held, act: Act | None, told: int, seen: Held) -> list[str]:
    """What a folder may not look like when it was killed in this act, of which `told` documents were told.

    Without an act, it was killed between two.
    """
    later = before if act is None else after(before, act)
    if act is None or act.kind in WHOLE:
        if seen in (before, later):
            return []
        return [f"{act and act.kind}: {_difference(before, seen)}; after it: {_difference(later, seen)}"]
    keys = {*before, *later, *seen}
    bad = sorted(key for key in keys if seen.get(key) not in (before.get(key), later.get(key)))
    problems = [
        f"{key}: {seen.get(key)!r} is neither {before.get(key)!r} nor {later.get(key)!r}" for key in bad
    ]
    new = sum(seen.get(key) == text != before.get(key) for key, text in later.items())
    if new < told:
        problems.append(f"{told} documents were acknowledged, {new} are there")
    return problems


class Doing:
    """Does what it is told to a data folder; `say` hears of every document that is durable."""

    def __init__(self, data: Path, say: Callable[[int], None]) -> None:
        ingesting.BATCH_CHUNKS, ingesting.BATCH_SECONDS = BATCH, 0.0
        self._catalogue, self._embedder, self._say = Catalogue(data), HashEmbedder(), say
        self._sources = data.parent / "sources"

    def close(self) -> None:
        self._catalogue.close()

    def begin(self) -> None:
        """Make the store that uploads are attached to."""
        about: dict[str, Any] = {"label": None, "description": None, "metadata": {}, "expires_days": None}
        with writing(self._catalogue.engine) as connection:
            ownership.create(connection, self._embedder, tenant=TENANT, store_id=SERVED, **about)

    def __call__(self, act: Act) -> None:
        catalogue = self._catalogue
        match act.kind:
            case "ingest":
                source = self._sources / act.store / f"{act.name}.jsonl"
                source.parent.mkdir(parents=True, exist_ok=True)
                rows = [json.dumps({"id": row, "text": text}) for row, text in act.rows.items()]
                source.write_text("\n".join(rows))
                watch = _Telling(self._say)
                done = ingest(catalogue, act.store, [source], self._embedder, read, Splitting(), watch)
                assert not done.errors, done.errors
            case "delete":
                store = catalogue.store(act.store)
                deleting.delete_file(
                    catalogue, store, deleting.find_file(catalogue, store, f"{act.name}.jsonl")
                )
            case "strike":
                deleting.delete_document(catalogue, catalogue.store(act.store), act.name)
            case "drop":
                deleting.delete_store(catalogue, catalogue.store(act.store))
            case "purge":
                erasure.purge(catalogue)
            case "upload":
                with uploads.receiving(catalogue) as incoming:
                    incoming.write(act.rows[""].encode())
                    about: dict[str, Any] = {"filename": "a.txt", "purpose": "assistants"}
                    uploads.keep(catalogue, incoming, tenant=TENANT, upload_id=act.name, **about)
            case "attach":
                with writing(catalogue.engine) as connection:
                    store = ownership.owned(connection, TENANT, SERVED)
                    attachments.attach(connection, store, TENANT, [attachments.Wish(act.name)], window=64)
            case "remove":
                uploads.remove(catalogue, TENANT, act.name)
            case "work":
                self._work()

    def _work(self) -> None:
        """Have everything read that is attached."""
        backlog = Backlog(self._catalogue, Embedders(None, self._embedder), _Here, _Telling(self._say))
        backlog.start()
        files = schema.files
        waiting = sa.select(sa.func.count()).where(files.c.state == "in_progress")
        while True:
            with self._catalogue.engine.connect() as connection:
                if not connection.execute(waiting.where(files.c.upload_id.is_not(None))).scalar_one():
                    break
            time.sleep(0.005)
        backlog.close()


class _Telling(Watching):
    def __init__(self, say: Callable[[int], None]) -> None:
        super().__init__()
        self._say = say

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        self._say(documents)


class _Here:
    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Any:
        return read(data, name, first_line)

    def close(self) -> None:
        return None


def observe(data: Path) -> Held:
    """What can be found. Raises AssertionError where catalogue, files and indexes do not agree."""
    catalogue, searcher = Catalogue(data), Searcher(data, HashEmbedder())
    held: Held = {}
    documents, files, chunks = schema.documents, schema.files, schema.chunks
    try:
        for store in catalogue.stores():
            bad = list(findings(catalogue, store))
            assert not bad, (store.name, bad)
            query = sa.select(files.c.source, files.c.upload_id, documents.c.external_id, chunks.c.text)
            query = query.select_from(chunks.join(documents).join(files, files.c.id == documents.c.file_id))
            query = query.where(chunks.c.store_id == store.id, chunks.c.died.is_(None))
            with catalogue.engine.connect() as connection:
                rows = connection.execute(query).all()
                waiting = sa.select(files.c.upload_id).where(
                    files.c.store_id == store.id, files.c.upload_id.is_not(None), files.c.state != "deleted"
                )
                attached = list(connection.execute(waiting).scalars())
            for row in rows:
                key = f"row:{store.name}/{Path(row.source).stem}/{row.external_id}"
                if row.upload_id is not None:
                    key = f"read:{row.upload_id}"
                assert key not in held, f"{key} is there twice"
                held[key] = row.text
            held |= {f"attached:{name}": "" for name in attached}
            for mode in ("keyword", "dense"):
                if rows:
                    hits = searcher.search("water", [store.name], mode=mode, top=1000).hits
                    assert sorted(hit.text for hit in hits) == sorted(row.text for row in rows), mode
        held |= {f"upload:{key}": text for key, text in uploaded(catalogue, data).items()}
        for key in held:
            if key.startswith("attached:"):
                held[key] = held[key.replace("attached:", "upload:")]
    finally:
        searcher.close()
        catalogue.close()
    return held


def tidy(data: Path) -> list[str]:
    """What nobody names after a purge: folders of segments and bytes of uploads."""
    catalogue = Catalogue(data)
    try:
        erasure.purge(catalogue)
        uploads.sweep(catalogue)
        with catalogue.engine.connect() as connection:
            known = set(connection.execute(sa.select(schema.uploads.c.sha256)).scalars())
        folder = data / uploads.FOLDER
        kept = {path.name for path in folder.iterdir()} if folder.is_dir() else set[str]()
        # An unfinished upload of the last minutes may be another process's: the next hour's sweep has it.
        return strays(data) + sorted(name for name in kept - known if not name.startswith(uploads.UNFINISHED))
    finally:
        catalogue.close()


def _without(held: Held, gone: Callable[[str], bool]) -> Held:
    return {key: text for key, text in held.items() if not gone(key)}


def _difference(one: Held, other: Held) -> str:
    keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    return ", ".join(f"{key}: {other.get(key)!r} instead of {one.get(key)!r}" for key in keys)[:600]
