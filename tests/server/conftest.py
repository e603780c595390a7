"""A real server on a real port, over an echo and a store of three small documents."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import openai
import pytest
import uvicorn
from click.testing import CliRunner

from indexer.backlog import Backlog
from indexer.catalogue import Catalogue
from indexer.commands.ingest import ingest
from indexer.database import open_database
from indexer.embedders import Embedders
from indexer.hash_embedder import HashEmbedder
from indexer.reading.reader import read
from indexer.records import Reading
from indexer.search import Searcher
from prompts.calibrator import Calibrator, Scored
from prompts.demos import Pool
from prompts.listing import parse_lines
from prompts.templates import Library
from server.adapters.book import Book
from server.adapters.intake import Bounds
from server.adapters.registry import Registry
from server.adapters.shelf import Shelf
from server.admission import Admission
from server.aliases import Alias, Aliases
from server.app import Opened, Options, create_app
from server.auth import Door
from server.bounded_http import BoundedHttp
from server.corpora import Corpora
from server.deciding import Desk
from server.demonstrations import PoolDemos
from server.echo_decoder import EchoDecoder
from server.embedding_service import EmbeddingService
from server.engine import Engine
from server.experiment_log import ExperimentLog
from server.experiments import Experiments
from server.feedback import Feedback
from server.following import Follower, following
from server.journal import Journal
from server.keys import Keys
from server.loops import loop_factory
from server.metrics import Metrics
from server.observing import Observer
from server.pipeline import Parts
from server.records import Rewrite
from server.retrieval import IndexRetriever
from server.stored_responses import StoredResponses
from tests.server.adapters.making import BASE

ROWS = [
    {"id": "cats", "title": "Cats", "text": "Cats sleep for thirteen hours a day and hunt at dusk."},
    {
        "id": "tea",
        "title": "Tea",
        "text": "Green tea is steeped at eighty degrees for two minutes.",
        "degrees": 80,
    },
    {
        "id": "iron",
        "title": "Iron",
        "text": "Iron melts at 1538 degrees Celsius and rusts in wet air.",
        "degrees": 1538,
    },
]
EXAMPLES = [
    {"id": "d1", "input": "How long do dogs sleep?", "output": "About twelve hours [1]."},
    {"id": "d2", "input": "When does copper melt?", "output": "At 1085 degrees [1]."},
    {"id": "d3", "input": "How hot is black tea made?", "output": "Near boiling [1]."},
]


@dataclass
class Running:
    """A server that answers, and the parts it runs on."""

    url: str
    parts: Parts
    decoder: EchoDecoder
    keys: Keys | None
    clients: contextlib.ExitStack  # closed with the server

    def client(self, **options: Any) -> openai.OpenAI:
        usual = {"base_url": f"{self.url}/v1", "api_key": "any", "max_retries": 0, "timeout": 20.0}
        return self.clients.enter_context(openai.OpenAI(**{**usual, **options}))

    def journalled(self, turn_id: str) -> dict[str, Any]:
        """The journal's rows of a turn, once everything queued is written."""
        self.parts.journal.wait()
        return dict(self.parts.journal.find(turn_id) or {})


class Here:
    """A reader in this process, for the documents of tests."""

    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Reading:
        return read(data, name, first_line)

    def close(self) -> None:
        return None


Serve = Callable[..., contextlib.AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the store `facts`."""
    folder = tmp_path_factory.mktemp("data")
    file = folder / "facts.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    done = CliRunner().invoke(
        ingest, [str(file), "--store", "facts", "--data", str(folder), "--embedder", "hash"]
    )
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def serve(data: Path, tmp_path: Path) -> Serve:
    """Start a server: `with serve(reply="…") as running:`. Options reach EchoDecoder, Admission, Options."""

    @contextlib.contextmanager
    def start(
        *,
        with_keys: bool = False,
        retention_days: float = 30,
        admission: Admission | None = None,
        rewrite: Rewrite = "off",
        options: Options | None = None,
        open_decoder: Any = None,
        engine_options: Mapping[str, float] = MappingProxyType({}),
        folder: Path = data,
        open_reader: Any = Here,
        upload_bytes: int = 100 * 2**20,
        cors_origins: tuple[str, ...] = (),
        embedding: type[EmbeddingService] = EmbeddingService,
        search_seconds: float = 5,
        aliases: Sequence[Alias] = (),
        library: Library | None = None,
        calibrators: Mapping[Scored, Calibrator] = MappingProxyType({}),
        experiments: Path | None = None,
        http: type[BoundedHttp] = BoundedHttp,
        observers: Sequence[Observer] = (),
        listeners: Sequence[Any] = (),
        **echo: Any,
    ) -> Iterator[Running]:
        database = open_database(tmp_path / "journal.db")
        keys = Keys(database, pepper=b"pepper") if with_keys else None
        embedder = HashEmbedder()
        embedders = Embedders(None, embedder)
        decoder = EchoDecoder(**echo)
        metrics = Metrics()
        metrics.listeners += listeners
        opened: list[Opened] = []

        async def open_echo() -> EchoDecoder:
            return decoder

        @contextlib.asynccontextmanager
        async def open_parts() -> AsyncIterator[Opened]:
            searcher = Searcher(folder, embedders, tell=metrics.searched)
            retriever = IndexRetriever(searcher, timeout_seconds=search_seconds, threads=2)
            pool = Pool(
                parse_lines(map(json.dumps, EXAMPLES), "examples"),
                vectors=embedder.passages([example["input"] for example in EXAMPLES]),
                embed=embedder.passages,
            )
            adapter_book = Book(database, folder / "adapters")
            wording, demos, met = library or Library.load(), PoolDemos(pool), Experiments()
            book = ExperimentLog(database)
            follower = Follower(book, met, wording, demos, experiments, has_adapter=adapter_book.has)
            follower.start()
            engine = Engine(open_decoder or open_echo, **engine_options)
            shelf = Shelf(folder / "adapters", lambda: BASE, Bounds(rank=8, block=4), folder / "inbox")
            adapters = Registry(
                adapter_book,
                shelf.intake,
                decoder=lambda: engine.decoder,
                up=engine.up,
                poll_seconds=0.05,
                ended=lambda outcome: metrics.adapter_loads.labels(outcome).inc(),
            )
            engine.when_lost(adapters.forget)
            engine.when_lost(metrics.engine_restarts.inc)
            parts = Parts(
                engine=engine,
                retriever=retriever,
                library=wording,
                aliases=Aliases(aliases),
                demos=demos,
                experiments=met,
                journal=Journal(database, secret=b"secret"),
                admission=admission or Admission(running=16, queue=64, deadline_seconds=30),
                metrics=metrics,
                adapters=adapters,
                rewrite=rewrite,
                secret=b"secret",
                public_url="http://fewshot.test",
                calibrators=calibrators,
            )
            parts.engine.start()
            adapters.start()
            catalogue = Catalogue(folder)
            backlog = Backlog(catalogue, embedders, open_reader, metrics)
            corpora = Corpora(catalogue, embedders, embedder, backlog, upload_bytes=upload_bytes)
            embeddings = embedding(embedder)
            opened.append(
                Opened(
                    parts=parts,
                    door=Door(keys),
                    embeddings=embeddings,
                    corpora=corpora,
                    adapters=adapters,
                    shelf=shelf,
                    feedback=Feedback(database),
                    desk=Desk(database, book, follower.refresh),
                    responses=StoredResponses(database, retention_days=retention_days),
                    options=options or Options(),
                )
            )
            async with following(follower):
                yield opened[0]
            corpora.close()
            await adapters.close()
            await parts.engine.close()
            retriever.close()
            embeddings.close()
            parts.journal.close()

        app = create_app(open_parts, metrics=metrics, cors_origins=cors_origins, observers=observers)
        server = uvicorn.Server(uvicorn.Config(app, http=http, port=0, log_level="error", lifespan="on"))
        runner = asyncio.Runner(loop_factory=loop_factory())

        def run() -> None:
            with runner:
                runner.run(server.serve())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        # A decoder of the test's own may never come up: that is then the point of the test.
        while not server.started or (open_decoder is None and not opened[0].parts.engine.up.is_set()):
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            with contextlib.ExitStack() as clients:
                yield Running(f"http://127.0.0.1:{port}", opened[0].parts, decoder, keys, clients)
        finally:
            server.should_exit = True
            thread.join(30)

    return start
