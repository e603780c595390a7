"""One server: one process, one port, an engine that starts beside it, drained on SIGTERM."""

import asyncio
import contextlib
import logging
import math
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import cast

import click
import uvicorn
from prometheus_client import CollectorRegistry, start_http_server
from starlette.applications import Starlette

from indexer.errors import IndexerError
from prompts.errors import PromptError
from server import heap
from server.app import Opened, create_app
from server.bounded_http import bounded_http
from server.logs import log_request, set_up
from server.loops import loop_factory, settle
from server.metrics import Metrics
from server.observing import Observer
from server.refusal import Refusal
from server.settings import Settings, SettingsRefused, overridden
from server.tracing import TracingUnavailable, open_tracing
from server.wiring import open_parts

LAG_SAMPLE_SECONDS = 0.5
OTHER_FILES = 2048  # than connections: segments, databases, the engine's

log = logging.getLogger("fewshot")


def run(settings: Settings) -> int:
    """Serve until told to stop; 0 after a clean drain. Raises Refusal for an unusable configuration."""
    heap.share()
    set_up(settings.telemetry.logs, requests=settings.telemetry.log_requests)
    allow_files(settings.connections.most + OTHER_FILES)
    listening = listen(settings)
    port = listening.getsockname()[1]
    settings = overridden(settings, {"server": {"port": port}})
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(settings, listening))
    except (IndexerError, PromptError, SettingsRefused, TracingUnavailable) as problem:
        raise Refusal(str(problem)) from None


async def _serve(settings: Settings, listening: socket.socket) -> int:
    metrics = Metrics()
    with observing(settings, metrics) as observers:
        return await _serve_observed(settings, listening, metrics, observers)


@contextmanager
def observing(settings: Settings, metrics: Metrics) -> Iterator[list[Observer]]:
    """What the settings say shall watch requests; all spans are sent. Raises TracingUnavailable."""
    telemetry = settings.telemetry
    observers: list[Observer] = [log_request] if telemetry.log_requests else []
    if not telemetry.traces:
        yield observers
        return
    tracing = open_tracing(telemetry.endpoint, telemetry.traces_share)
    metrics.listeners.append(tracing.replied)
    try:
        yield [*observers, tracing.request]
    finally:
        tracing.close()


async def _serve_observed(
    settings: Settings, listening: socket.socket, metrics: Metrics, observers: list[Observer]
) -> int:
    async with open_parts(settings, metrics) as opened:
        if not settings.loopback and settings.server.metrics_port:
            start_http_server(
                settings.server.metrics_port, addr="127.0.0.1", registry=cast(CollectorRegistry, metrics)
            )
        app = create_app(
            lambda: contextlib.nullcontext(opened),
            metrics=metrics,
            openapi=settings.server.openapi,
            cors_origins=settings.server.cors_origins or (),
            observers=observers,
        )
        server = Draining(http_config(app, settings), opened, drain_seconds=settings.server.drain_seconds)
        host = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
        _say(f"Fewshot listens on http://{host}:{settings.server.port}/v1; the engine is starting …")
        beside = [
            asyncio.create_task(_announce(opened, server)),
            asyncio.create_task(_time_loop(metrics.loop_lag_seconds.observe)),
            asyncio.create_task(heap.stay_small()),
        ]
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in beside:
                task.cancel()
    return 1 if opened.parts.engine.failure else 0


def http_config(app: Starlette, settings: Settings) -> uvicorn.Config:
    """How the application is served: the product's own connections and their bounds."""
    bounds = settings.connections
    return uvicorn.Config(
        app,
        http=bounded_http(most=bounds.most, head_seconds=bounds.head_seconds),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        server_header=False,
    )


class Draining(uvicorn.Server):
    """On the first signal: refuse newcomers, let those inside finish, then close. On the second: at once."""

    def __init__(self, config: uvicorn.Config, opened: Opened, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._opened = opened
        self._drain_seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining is not None:
            self.force_exit = self.should_exit = True
            return
        _say(f"{signal.Signals(sig).name}: finishing what was admitted …")
        self._draining = asyncio.get_event_loop().create_task(self._drain())

    async def _drain(self) -> None:
        until = time.monotonic() + self._drain_seconds
        done = await self._opened.parts.admission.drain(self._drain_seconds)
        if not done:
            log.warning("some requests did not finish within %g s and are cut off", self._drain_seconds)
            for task in list(self.server_state.tasks):  # or uvicorn would wait for them as long as they last
                task.cancel()
        # What is answered but not yet read has the rest of the time, and a second at least.
        self.config.timeout_graceful_shutdown = max(1, math.ceil(until - time.monotonic()))
        self.should_exit = True


async def _announce(opened: Opened, server: uvicorn.Server) -> None:
    began = time.monotonic()
    engine = opened.parts.engine
    await engine.up.wait()
    if engine.failure is not None:
        _say(f"The engine did not start: {engine.failure}")
        server.should_exit = True
        return
    settle()
    profile = engine.decoder.profile
    _say(
        f"Ready after {time.monotonic() - began:.0f} s: "
        f"{profile.name} on {profile.engine} {profile.engine_version}"
    )
    await engine.ended.wait()
    _say(f"The engine is down for good: {engine.failure}")
    server.should_exit = True


async def _time_loop(observe: Callable[[float], None]) -> None:
    """Twice a second, how late the loop woke us: what every request waits, whatever it asks for."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SAMPLE_SECONDS
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        observe(loop.time() - due)


def allow_files(needed: int) -> None:
    """Let the process open so many files where its hard limit allows; `fewshot doctor` tells where not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def listen(settings: Settings) -> socket.socket:
    """The listening socket, bound before anything slow starts. Raises Refusal naming what holds the port."""
    host, port = settings.server.host, settings.server.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Named protocol: asyncio sets TCP_NODELAY only then, and Nagle would hold each first token for 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)  # as uvicorn does, but at once: who reads the address and comes early waits
    except OSError as problem:
        raise Refusal(
            f"cannot listen on {host}:{port}: {problem.strerror or problem}; choose another with --port"
        ) from None
    return listening


def _say(line: str) -> None:
    click.echo(line, err=True)
