"""Models, databases, stores and keys under the folders that the settings name; read, never changed."""

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa

from indexer import schema as stored
from indexer.catalogue import FILE, URL, Catalogue
from indexer.database import open_database
from indexer.errors import IndexerError
from indexer.records import Store
from indexer.segments import open_segment
from server import schema as journalled
from server.diagnosis.findings import Finding, fail, ok, warn
from server.keys import Keys, read_secret
from server.models import ModelUnavailable, locate
from server.refusal import Refusal
from server.settings import Settings


def holdings(settings: Settings) -> Iterator[Finding]:
    """All of them."""
    yield engine_model(settings)
    yield embedder(settings)
    yield from databases(settings)
    yield from stores(settings)
    yield keys(settings)


def model_folder(settings: Settings) -> Path | None:
    """Where the engine's model is, if it is here."""
    with suppress(ModelUnavailable):
        folder = Path(locate(settings.engine.model, settings.paths.cache / "models"))
        return folder if folder.is_dir() else None
    return None


def engine_model(settings: Settings) -> Finding:
    """Whether the model that answers is here, whole, and has the context that is asked of it."""
    name = settings.engine.model
    if settings.engine.kind == "echo":
        return ok("model", "none: engine.kind is echo")
    try:
        where = locate(name, settings.paths.cache / "models")
    except ModelUnavailable as problem:
        return fail("model", f"{name}: {problem}", "fewshot models fetch, or set engine.model to a folder")
    folder = Path(where)
    if not folder.is_dir():
        return warn("model", f"{where} is a hub's id: it is fetched at the first start",
                    "name a folder in engine.model, so that a start needs no network")  # fmt: skip
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as problem:
        return fail("model", f"{folder}/config.json: {problem}", "fetch the model again")
    if not any(folder.glob("*.safetensors")):
        return fail("model", f"no *.safetensors in {folder}", "fetch the model again, or convert it")
    longest, asked = config.get("max_position_embeddings"), settings.engine.context
    if isinstance(longest, int) and asked > longest:
        return fail("model", f"{name} has a context of {longest}, engine.context asks for {asked}",
                    f"set engine.context to {longest} or less")  # fmt: skip
    return ok("model", f"{name} in {folder}")


def embedder(settings: Settings) -> Finding:
    """Whether the model that embeds questions is here."""
    name = settings.retrieval.embedder.removesuffix(":int8")
    folders = [settings.paths.cache / "models" / name, Path(name).expanduser()]
    if name == "hash":
        return warn("embedder", "hash: finds the same words only", "set retrieval.embedder to a model")
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return ok("embedder", f"{settings.retrieval.embedder} in {folder}")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return warn("embedder", f"{name} is a hub's id: it is fetched at the first start",
                    "name a folder in retrieval.embedder, so that a start needs no network")  # fmt: skip
    return fail(
        "embedder", f"no {name} in {folders[0].parent}", "fewshot models fetch, or set retrieval.embedder"
    )


def databases(settings: Settings) -> Iterator[Finding]:
    """Whether journal and catalogue can be read by this release, and hold together."""
    for name, file, newest in (
        ("catalogue", FILE, stored.VERSION),
        ("journal", "journal.db", journalled.VERSION),
    ):
        path = settings.paths.data / file
        if name == "catalogue" and (settings.paths.data / URL).exists():
            yield ok(name, "on PostgreSQL")
        elif not path.is_file():
            yield ok(name, f"none yet in {settings.paths.data}")
        else:
            yield _database(name, path, newest)


def stores(settings: Settings) -> Iterator[Finding]:
    """Each store: are its files what was published, and is the model there that made its vectors?"""
    data = settings.paths.data
    if not (data / URL).exists() and _version(data / FILE) != stored.VERSION:
        return  # none, or one that only an upgrade could read: said of the catalogue
    try:
        with closing(Catalogue(data)) as catalogue:
            found = catalogue.stores()
            if not found:
                yield ok("stores", "none yet: fewshot ingest makes one")
            for store in found:
                yield _store(settings, catalogue, store)
    except (IndexerError, sa.exc.SQLAlchemyError) as problem:
        yield fail("stores", str(problem), "see docs/operating.md")


def keys(settings: Settings) -> Finding:
    """Whether anybody can get in, and nobody else."""
    if not settings.auth.enabled:
        return ok("keys", f"off: only {settings.server.host} is listened on")
    data = settings.paths.data
    way = "fewshot keys create"
    if _version(data / "journal.db") != journalled.VERSION:
        return warn("keys", "auth.enabled, and no key that this release can read", way)
    try:
        engine = open_database(data / "journal.db")
        try:
            active = sum(key.state == "active" for key in Keys(engine, pepper=read_secret(data)).list())
        finally:
            engine.dispose()
    except Refusal as problem:
        return fail("keys", *_halves(str(problem)))
    return ok("keys", f"{active} active") if active else warn("keys", "auth.enabled, and no active key", way)


def _database(name: str, path: Path, newest: int) -> Finding:
    try:
        version = _version(path)
        if version > newest:
            return fail(name, f"{path} has schema {version}, this release knows {newest}",
                        "upgrade fewshot, or restore the backup taken before the upgrade")  # fmt: skip
        engine = open_database(path)
        with engine.connect() as connection:
            said = connection.execute(sa.text("PRAGMA quick_check(1)")).scalar_one()
        engine.dispose()
    except (IndexerError, sa.exc.SQLAlchemyError) as problem:
        return fail(name, str(problem), "restore it from a backup, or move it away")
    if said != "ok":
        return fail(name, f"{path} is damaged: {said}", "restore it from a backup")
    if version < newest:
        return warn(name, f"{path} is of an older release", "the next start upgrades it, after a copy")
    return ok(name, f"{path}, schema {version}")


def _version(path: Path) -> int:
    """The schema's, from the file's header; 0 where there is no file."""
    if not path.is_file():
        return 0
    engine = open_database(path)
    try:
        with engine.connect() as connection:
            return int(connection.execute(sa.text("PRAGMA user_version")).scalar_one())
    finally:
        engine.dispose()


def _store(settings: Settings, catalogue: Catalogue, store: Store) -> Finding:
    name = f"store {store.name}"
    models = settings.paths.cache / "models"
    plain = store.embedder.removesuffix(":int8")
    here = plain == "hash" or any((folder / plain).is_dir() for folder in (models, Path()))
    try:
        generation = catalogue.generation(store.id)
        for segment in generation.segments:
            open_segment(catalogue.data, segment, generation.dimension)
    except IndexerError as problem:
        return fail(name, *_halves(str(problem)))
    found = f"{sum(one.chunks for one in generation.segments)} chunks in {len(generation.segments)} segments"
    if not here:
        return fail(name, f"{found}, embedded with {store.embedder}, which is not in {models}",
                    "put the model there, or `fewshot stores migrate` to another")  # fmt: skip
    return ok(name, f"{found}, {store.embedder}")


def _halves(problem: str) -> tuple[str, str]:
    """What is wrong, and the way out that our errors name after a colon or a semicolon."""
    for mark in (": ", "; "):
        found, _, way = problem.rpartition(mark)
        if found:
            return found, way
    return problem, "fewshot verify says more"
