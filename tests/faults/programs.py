"""What users do to stores and files, one thing at a time, and what a data folder holds afterwards.

Every program runs on a copy of the same folder, in a process of its own that may die at any point.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from indexer import deleting, erasure, schema, uploads
from indexer.catalogue import Catalogue
from indexer.errors import UnknownFile, UnknownUpload
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import ingest
from indexer.reading.reader import read
from indexer.search import Searcher
from indexer.segments import stores_folder
from indexer.splitting import Splitting
from indexer.verification import findings
from tests.indexer.conftest import Watching

WORDS = ("duck", "heron", "otter", "newt", "swift", "gnat", "carp", "toad")
UPLOAD = "file-01ARZ3NDEKTSV4RRFFQ69G5FAV"
NEW_UPLOAD = "file-01ARZ3NDEKTSV4RRFFQ69G5FAW"

State = dict[str, object]


def put(data: Path, store: str, name: str, text: str) -> None:
    """Ingest one file of rows, the folder of sources being beside the data."""
    source = data.parent / "sources" / store
    source.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"{name}-{row}", "text": f"{text}. Row {row} of {name}."} for row in range(3)]
    (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalogue = Catalogue(data)
    try:
        ingest(catalogue, store, [source / f"{name}.jsonl"], HashEmbedder(), read, Splitting(), Watching())
    finally:
        catalogue.close()


def prepare(data: Path) -> None:
    """What every program begins with: a store of a few files, one of so many that one more merges them."""
    for word in WORDS[:3]:
        put(data, "docs", word, f"The {word} lives near water")
    for word in WORDS[:7]:
        put(data, "many", word, f"The {word} lives near water")
    upload(data, UPLOAD, b"an upload that is there already")
    catalogue = Catalogue(data)
    deleting.delete_file(catalogue, catalogue.store("docs"), _file(catalogue, "docs", "otter"))
    catalogue.close()


def upload(data: Path, key: str, content: bytes) -> None:
    catalogue = Catalogue(data)
    try:
        with uploads.receiving(catalogue) as incoming:
            incoming.write(content)
            uploads.keep(
                catalogue, incoming, tenant="t", filename="a.txt", purpose="assistants", upload_id=key
            )
    finally:
        catalogue.close()


def _add(data: Path) -> None:
    put(data, "docs", "newt", "The newt lives near water")


def _replace(data: Path) -> None:
    put(data, "docs", "duck", "The duck moved into town")


def _first(data: Path) -> None:
    put(data, "fresh", "gnat", "The gnat lives near water")


def _merge(data: Path) -> None:
    put(data, "many", "toad", "The toad lives near water")


def _delete(data: Path) -> None:
    catalogue = Catalogue(data)
    try:
        deleting.delete_file(catalogue, catalogue.store("docs"), _file(catalogue, "docs", "heron"))
    finally:
        catalogue.close()


def _purge(data: Path) -> None:
    catalogue = Catalogue(data)
    try:
        erasure.purge(catalogue)
    finally:
        catalogue.close()


def _upload(data: Path) -> None:
    upload(data, NEW_UPLOAD, b"a new upload")


def _remove(data: Path) -> None:
    catalogue = Catalogue(data)
    try:
        uploads.remove(catalogue, "t", UPLOAD)
    finally:
        catalogue.close()


PROGRAMS: dict[str, Callable[[Path], None]] = {
    "add": _add,
    "replace": _replace,
    "first": _first,
    "merge": _merge,
    "delete": _delete,
    "purge": _purge,
    "upload": _upload,
    "remove": _remove,
}


def again(program: str, data: Path) -> None:
    """What a user does after a crash: the same once more. What is gone already may say so."""
    if program == "upload" and NEW_UPLOAD in state(data):
        return  # its answer was lost: by the id that the caller never learned it would come a second time
    try:
        PROGRAMS[program](data)
    except (UnknownFile, UnknownUpload):
        if program not in ("delete", "remove"):
            raise


def state(data: Path) -> State:
    """What can be found. Raises AssertionError where catalogue, files and indexes do not agree."""
    catalogue, searcher = Catalogue(data), Searcher(data, HashEmbedder())
    held: State = {}
    try:
        for store in catalogue.stores():
            wrong = list(findings(catalogue, store))
            assert not wrong, (store.name, wrong)
            chunks, documents = schema.chunks, schema.documents
            query = sa.select(documents.c.external_id, chunks.c.text).join(documents)
            with catalogue.engine.connect() as connection:
                mine = query.where(chunks.c.store_id == store.id, chunks.c.died.is_(None))
                rows = sorted(tuple(row) for row in connection.execute(mine))
            if not rows:
                continue  # a store that was claimed and not yet filled is one with nothing to find
            held[store.name] = rows
            for mode in ("keyword", "dense"):
                hits = searcher.search("lives near water town", [store.name], mode=mode, top=50).hits
                assert sorted(hit.text for hit in hits) == sorted(text for _, text in rows), (
                    store.name,
                    mode,
                )
        held |= uploaded(catalogue, data)
    finally:
        searcher.close()
        catalogue.close()
    return held


def uploaded(catalogue: Catalogue, data: Path) -> dict[str, str]:
    """Every upload's text by its id; its bytes have the SHA-256 that the catalogue says."""
    found = {}
    with catalogue.engine.connect() as connection:
        for key, digest in connection.execute(sa.select(schema.uploads.c.id, schema.uploads.c.sha256)):
            content = (data / uploads.FOLDER / digest).read_bytes()
            assert hashlib.sha256(content).hexdigest() == digest
            found[key] = content.decode()
    return found


def strays(data: Path) -> list[str]:
    """Folders of segments that no row names. One that was being written or removed is swept by the next."""
    catalogue = Catalogue(data)
    try:
        found = []
        for store in catalogue.stores():
            known = {segment.id for one in catalogue.series(store.id) for segment in catalogue.segments(one)}
            folder = stores_folder(data, store.id)
            found += [path.name for path in folder.iterdir() if path.is_dir() and path.name not in known]
        return found
    finally:
        catalogue.close()


def _file(catalogue: Catalogue, store: str, name: str) -> str:
    return deleting.find_file(catalogue, catalogue.store(store), f"{name}.jsonl")
