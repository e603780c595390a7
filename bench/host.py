"""One process that holds one engine and lets two arms at it (performance.md §3.1).

A1  the ids go to the decoder, in this process, without a server
A4  the same engine behind our HTTP server: uvicorn on loopback, journal and metrics on

The benchmark's own process is the client of A4 and only asks for A1 over a pipe: its work disturbs neither.
"""

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import uvicorn

from bench.clocked import Clocked, Decoded
from bench.records import NotMeasured
from bench.workloads import ChatPrompt, chat_prompts
from server.app import create_app
from server.engine import Engine
from server.loops import loop_factory, settle
from server.metrics import Metrics
from server.profile import ModelProfile
from server.records import Limits
from server.running import http_config, listen  # the product's own: they are part of what is measured
from server.seams import Decoder
from server.settings import Settings
from server.wiring import open_parts

STOP_SECONDS = 60.0
Opener = Callable[[Settings], Awaitable[Decoder]]  # travels by its name


class HostFailed(NotMeasured):
    """The engine did not come up, or could not do what it was asked."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Ask for prompts of an exact length."""

    seed: int
    count: int
    tokens: int


@dataclass(frozen=True, slots=True)
class DecodeBare:
    """Ask for arm A1: the prompts straight to the decoder, `concurrency` at a time."""

    prompts: Sequence[tuple[int, ...]]
    tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Call:
    """Ask for anything else that is done with the bare decoder there; what it returns comes back."""

    work: Callable[[Any], Awaitable[Any]]  # travels by its name


class Up(NamedTuple):
    port: int
    pid: int
    profile: ModelProfile
    settings: dict[str, Any]


class Host:
    """The client's end of the pipe."""

    def __init__(self, pipe: Connection, up: Up) -> None:
        self._pipe = pipe
        self.up = up

    async def draw(self, *, seed: int, count: int, tokens: int) -> list[ChatPrompt]:
        prompts: list[ChatPrompt] = await self._ask(Draw(seed, count, tokens))
        return prompts

    async def decode(
        self, prompts: Sequence[tuple[int, ...]], *, tokens: int, concurrency: int
    ) -> list[Decoded]:
        """Arm A1, in the prompts' order."""
        decoded: list[Decoded] = await self._ask(DecodeBare(prompts, tokens, concurrency))
        return decoded

    async def engine_times(self) -> dict[str, Decoded]:
        """What the decoder saw of the server's requests since the last call, by request id."""
        times: dict[str, Decoded] = await self._ask("times")
        return times

    async def engine_prompts(self) -> dict[str, tuple[int, ...]]:
        """The token ids of the server's requests since the last call, by request id, in order of coming."""
        prompts: dict[str, tuple[int, ...]] = await self._ask("prompts")
        return prompts

    async def call(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """`work` in the engine's process, given the bare decoder."""
        return await self._ask(Call(work))

    async def _ask(self, question: Any) -> Any:
        self._pipe.send(question)
        answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, HostFailed):
            raise answer
        return answer


@contextmanager
def host(settings: Settings, opener: Opener | None = None) -> Iterator[Host]:
    """The process, engine up; the decoder is the settings' own, or what `opener` opens. Raises HostFailed."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_run, args=(settings, theirs, opener))
    child.start()
    theirs.close()
    try:
        try:
            up = ours.recv()
        except EOFError:
            raise HostFailed("the engine's process ended before it was up") from None
        if isinstance(up, str):
            raise HostFailed(up)
        yield Host(ours, up)
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        child.join(STOP_SECONDS)
        if child.is_alive():
            child.terminate()
            child.join()


def _run(settings: Settings, pipe: Connection, opener: Opener | None) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(settings, pipe, opener))


async def _serve(settings: Settings, pipe: Connection, opener: Opener | None) -> None:
    metrics = Metrics()
    async with open_parts(settings, metrics) as opened:
        own = opened.parts.engine
        await own.up.wait()
        if own.failure is not None:
            pipe.send(own.failure)
            return
        decoder = own.decoder if opener is None else await opener(settings)
        clocked = Clocked(decoder)
        engine = Engine(lambda: _itself(clocked))
        engine.start()
        await engine.up.wait()
        settle()  # as the product does
        proving = asyncio.create_task(_keep_from_probing(own, engine))
        app = create_app(
            lambda: contextlib.nullcontext(replace(opened, parts=replace(opened.parts, engine=engine))),
            metrics=metrics,
        )
        server = uvicorn.Server(http_config(app, settings))
        listening = listen(settings)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        port = listening.getsockname()[1]
        pipe.send(Up(port, os.getpid(), decoder.profile, settings.model_dump(mode="json")))
        try:
            await _answer(pipe, decoder, clocked)
        finally:
            proving.cancel()
            server.should_exit = True
            await serving
            await engine.close()


async def _itself(decoder: Clocked) -> Decoder:
    return decoder


async def _keep_from_probing(*engines: Engine) -> None:
    """An idle engine probes itself with a token every few seconds: not while something is measured."""
    while True:
        for engine in engines:
            engine.proved()
        await asyncio.sleep(1)


async def _answer(pipe: Connection, decoder: Decoder, clocked: Clocked) -> None:
    """Do what the client asks, until it asks for nothing more."""
    while (asked := await asyncio.to_thread(pipe.recv)) is not None:
        answer: Any
        match asked:
            case Draw(seed, count, tokens):
                draw = partial(chat_prompts, decoder.tokenizer, seed=seed, count=count, tokens=tokens)
                answer = await asyncio.to_thread(draw)
            case DecodeBare():
                answer = await _decode_bare(decoder, asked)
            case Call(work):
                try:
                    answer = await work(decoder)
                except Exception as problem:  # other work may still go well
                    answer = HostFailed(f"{type(problem).__name__}: {problem}")
            case "prompts":
                answer, clocked.prompts = clocked.prompts, {}
            case _:
                answer, clocked.seen = clocked.seen, {}
        pipe.send(answer)


async def _decode_bare(decoder: Decoder, asked: DecodeBare) -> list[Decoded]:
    # The server salts the prefix cache by tenant: another salt keeps the arms out of each other's.
    limits = Limits(max_tokens=asked.tokens, temperature=0.0, ignore_eos=True, cache_salt="bare")
    waiting = iter(enumerate(asked.prompts))
    found: dict[int, Decoded] = {}

    async def work() -> None:
        for number, prompt in waiting:
            found[number] = await _one(decoder, prompt, limits, f"bare-{time.monotonic_ns()}-{number}")

    async with asyncio.TaskGroup() as group:
        for _ in range(asked.concurrency):
            group.create_task(work())
    return [found[number] for number in sorted(found)]


async def _one(decoder: Decoder, prompt: tuple[int, ...], limits: Limits, request_id: str) -> Decoded:
    began, first, texts, tokens, cached = time.monotonic(), 0.0, [], 0, 0
    async for piece in decoder.decode(prompt, limits, request_id=request_id):
        if piece.text and not first:
            first = time.monotonic()
        texts.append(piece.text)
        tokens += len(piece.tokens)
        cached = max(cached, piece.cached_tokens)
    return Decoded(began, first, "".join(texts), tokens, cached)
