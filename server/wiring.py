"""Settings → open parts: the only place where concrete classes are chosen."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from indexer.backlog import Backlog
from indexer.catalogue import Catalogue
from indexer.database import open_database
from indexer.devices import torch_names
from indexer.embedders import Embedders
from indexer.embedding import open_embedder
from indexer.reranking import open_reranker
from indexer.sandbox import Sandbox, servers_here
from indexer.seams import Reranker
from indexer.search import Searcher
from indexer.vectors.cuda import open_card
from prompts.calibrator import read_all
from prompts.templates import Library
from server.adapters.base_model import read_base
from server.adapters.book import Book
from server.adapters.intake import Bounds
from server.adapters.registry import Registry
from server.adapters.shelf import Shelf
from server.admission import Admission
from server.aliases import Alias, Aliases
from server.app import Opened, Options
from server.auth import Door
from server.coalescing import Coalescing
from server.corpora import Corpora
from server.deciding import Desk
from server.decoder_opening import decoder_opener
from server.demonstrations import with_static
from server.echo_decoder import ECHO
from server.embedding_service import EmbeddingService
from server.engine import Engine
from server.enrolment import Enrolment
from server.evaluating import Evaluator
from server.experiment_log import ExperimentLog
from server.experiments import Experiments
from server.feedback import Feedback
from server.following import Follower, following
from server.journal import Journal, unit_key
from server.keys import Keys, read_secret
from server.metrics import Metrics
from server.models import locate, served_name
from server.pipeline import Parts
from server.pool_opening import open_demos
from server.quotas import Quotas, Rates
from server.records import Sampling
from server.retrieval import IndexRetriever
from server.routes.bodies import Bodies
from server.settings import Settings, SettingsRefused
from server.stored_responses import StoredResponses

log = logging.getLogger("fewshot")
BLOCK_TOKENS = 16  # of a KV block, the least there is: what fills those may still not fill larger ones


@asynccontextmanager
async def open_parts(settings: Settings, metrics: Metrics) -> AsyncGenerator[Opened]:
    """Open everything the app runs on; the engine starts in the background.

    Raises what is wrong with the configuration before the port answers: EmbedderMissing, RerankerMissing,
    DatabaseRefused, TemplateInvalid, PoolInvalid, CalibratorInvalid, ExperimentInvalid, ExperimentChanged,
    ModelUnavailable, SettingsRefused.
    """
    paths, server = settings.paths, settings.server
    secret = read_secret(paths.data)
    library = Library.load(*([paths.templates] if paths.templates else []))
    async with AsyncExitStack() as stack:
        database = open_database(paths.data / "journal.db")
        journal = Journal(database, secret=secret, keep=settings.journal.keep)
        stack.callback(journal.close)
        devices = torch_names(settings.retrieval.device)
        embedder = open_embedder(settings.retrieval.embedder, paths.cache / "models", devices)
        embedders = Embedders(paths.cache / "models", embedder, devices=devices)
        retriever = IndexRetriever(
            Searcher(
                paths.data,
                embedders,
                _reranker(settings.retrieval.reranker, devices),
                open_card(settings.retrieval.device),
                metrics.searched,
            ),
            timeout_seconds=settings.retrieval.timeout_seconds,
            threads=settings.retrieval.threads,
            per_file=settings.retrieval.per_file,
        )
        stack.callback(retriever.close)
        catalogue = Catalogue(paths.data)
        backlog = Backlog(catalogue, embedders, lambda: Sandbox(servers=servers_here()), metrics)
        corpora = Corpora(catalogue, embedders, embedder, backlog, upload_bytes=server.upload_bytes)
        stack.callback(corpora.close)
        embeddings = EmbeddingService(embedder)
        stack.callback(embeddings.close)
        admission = Admission(
            running=server.running or settings.engine.batch,
            queue=server.queue,
            deadline_seconds=server.deadline_seconds,
        )
        coalescing = Coalescing(lambda: admission.running, most_seconds=server.coalesce_seconds)
        engine = Engine(
            decoder_opener(settings, coalescing),
            hang_seconds=settings.engine.hang_seconds,
            observe=metrics.engine_probe_seconds.observe,
        )
        demos = open_demos(settings, embedders, embedder)
        library = with_static(library, demos)
        experiments = Experiments()
        book = ExperimentLog(database)
        adapter_book = Book(database, paths.data / "adapters")
        follower = Follower(
            book,
            experiments,
            library,
            demos,
            paths.experiments,
            has_adapter=adapter_book.has,
            enrolment=lambda name: Enrolment(database, name, partial(unit_key, secret)),
        )
        follower.start()
        shelf = open_shelf(settings)
        shelf.sweep()
        adapters = Registry(
            adapter_book,
            shelf.intake,
            decoder=lambda: engine.decoder,
            up=engine.up,
            observe=lambda part, seconds: metrics.adapter_load_seconds.labels(part).observe(seconds),
            ended=lambda outcome: metrics.adapter_loads.labels(outcome).inc(),
            taken=settings.aliases,
        )
        engine.when_lost(adapters.forget)
        engine.when_lost(metrics.engine_restarts.inc)
        metrics.watch(
            waiting=lambda: admission.waiting,
            running=lambda: admission.running,
            ready=lambda: engine.state == "ready",
            adapters=lambda: adapters.loaded,
            journal_dropped=lambda: journal.dropped,
            unread=backlog.waiting,
        )
        parts = Parts(
            engine=engine,
            retriever=retriever,
            library=library,
            aliases=open_aliases(settings, library),
            demos=demos,
            experiments=experiments,
            journal=journal,
            admission=admission,
            metrics=metrics,
            adapters=adapters,
            secret=secret,
            top=settings.retrieval.top,
            rewrite=settings.retrieval.rewrite,
            rewrite_seconds=settings.retrieval.timeout_seconds,
            output_tokens=settings.limits.output_tokens,
            echo_logprobs=settings.limits.echo_logprobs,
            public_url=server.public_url or f"http://{server.host}:{server.port}",
            calibrators=read_all(paths.calibrators) if paths.calibrators else {},
        )
        engine.start()
        stack.push_async_callback(engine.close)
        adapters.start()
        stack.push_async_callback(adapters.close)
        retriever.warm()
        evaluator = Evaluator(
            database, book, lambda name, alarm: metrics.sample_ratio_alarm.labels(name).set(alarm)
        )
        await stack.enter_async_context(following(follower, evaluator, settings.experiments.evaluate_seconds))
        yield Opened(
            parts=parts,
            door=_door(settings, database, secret),
            embeddings=embeddings,
            corpora=corpora,
            adapters=adapters,
            shelf=shelf,
            desk=Desk(database, book, follower.refresh),
            feedback=Feedback(database, keep=settings.journal.keep),
            responses=StoredResponses(database, retention_days=settings.responses.retention_days),
            options=Options(
                body_bytes=server.body_bytes,
                unit_header=server.unit_header,
                unknown_fields=server.unknown_fields,
                bodies=Bodies(
                    seconds=settings.connections.body_seconds, most_bytes=settings.connections.bodies_bytes
                ),
                stalled_seconds=settings.connections.stalled_seconds,
                metrics_here=settings.loopback,
            ),
        )


def open_aliases(settings: Settings, library: Library) -> Aliases:
    """The aliases of the settings. Raises SettingsRefused with everything that is wrong with them."""
    knobs = settings.engine
    served = ECHO
    if knobs.kind == "vllm" and settings.aliases:
        served = served_name(locate(knobs.model, settings.paths.cache / "models"))
    aliases = Aliases(
        Alias(
            name=name,
            model=bound.model or served,
            tenant=bound.tenant,
            template=bound.template,
            variables=bound.variables,
            vector_stores=bound.vector_stores,
            top=bound.top,
            score_threshold=bound.score_threshold,
            demos=bound.demos,
            sampling=Sampling(**bound.sampling.model_dump()),
            max_tokens=bound.max_tokens,
            when_empty=bound.when_empty,
            refusal_text=bound.refusal_text,
            citations=bound.citations,
            lock=frozenset(bound.lock),
        )
        for name, bound in settings.aliases.items()
    )
    adapters = bool(knobs.max_loras or knobs.soft_rows or knobs.prefix_rows or settings.adapters.full_models)
    has_demos = settings.paths.demos is not None
    problems = aliases.problems(library, served=served, has_demos=has_demos, adapters=adapters)
    if problems:
        raise SettingsRefused("settings refused:\n" + "\n".join(f"  {problem}" for problem in problems))
    return aliases


def open_shelf(settings: Settings) -> Shelf:
    """The folder of adapters; the base model's files are read when the first adapter comes."""
    paths, knobs = settings.paths, settings.engine
    bounds = Bounds(
        rank=knobs.max_lora_rank,
        tokens=knobs.soft_rows or Bounds().tokens,
        prefix_tokens=knobs.prefix_rows or Bounds().prefix_tokens,
        block=knobs.block or BLOCK_TOKENS,
        bytes=settings.adapters.bytes,
    )
    return Shelf(
        paths.data / "adapters",
        lambda: read_base(Path(locate(knobs.model, paths.cache / "models"))),
        bounds,
        settings.adapters.inbox or paths.data / "inbox",
    )


def _door(settings: Settings, database: sa.Engine, secret: bytes) -> Door:
    limits = settings.limits
    default = Rates(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent)
    return Door(Keys(database, pepper=secret) if settings.auth.enabled else None, Quotas(default))


def _reranker(folder: str | None, devices: Sequence[str]) -> Reranker | None:
    return open_reranker(Path(folder).expanduser(), *devices) if folder else None
