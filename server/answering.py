"""One answer as it comes: decoded, cited, timed, journalled, whichever way it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal

from server.admission import Ticket
from server.call_reading import open_reader
from server.choices import CallsSoFar, ChoiceSoFar
from server.citing import Citer
from server.ending import Ending
from server.engine import Engine
from server.journal import Journal
from server.metrics import Metrics
from server.outlets import Outlet
from server.records import Limits, Piece, Plan, Reply, Usage
from server.seams import Decoder, Show


class Answer:
    """The stream of one plan; `reply()` is whole once the stream is exhausted.

    The ticket is given back when the stream ends, also when it is closed early.
    """

    def __init__(
        self,
        plan: Plan,
        ticket: Ticket,
        *,
        exposed: asyncio.Future[None],
        engine: Engine,
        journal: Journal,
        metrics: Metrics,
        public_url: str = "",
    ) -> None:
        self._plan = plan
        self._exposed = exposed
        self._ticket = ticket
        self._engine = engine
        self._journal = journal
        self._metrics = metrics
        self._public_url = public_url
        citing = plan.grounding != "not_requested" and plan.turn.wishes.citations != "none"
        citing = citing and plan.turn.schema is None  # JSON is left as the grammar made it
        self._choices = [
            ChoiceSoFar(Citer(plan.sources) if citing else None, self._calls())
            for _ in range(plan.limits.n * max(len(plan.prompts), 1))
        ]
        self._first_token_seconds: float | None = None
        self._outlet = Outlet()  # no way out
        self._problem: Exception | None = None  # of a piece on its way past those who wait
        self._ended_as: Reply | None = None

    def _calls(self) -> CallsSoFar | None:
        calling, streamed = self._plan.turn.calling, self._plan.turn.stream
        reader = open_reader(calling, self._engine.decoder, streamed=streamed)
        if reader is None or self._plan.refusal is not None:
            return None
        return CallsSoFar(reader, parallel=calling.parallel, by_name=calling.choice == "named")

    async def pieces(self, outlet: Outlet | None = None) -> AsyncGenerator[Piece]:
        """Pieces to show, choices interleaved; of a single choice those are left out that went by `outlet`.

        Raises DeadlineExceeded, EngineUnavailable. Close the iterator to abort the request in the engine.
        One generator and no more: many a token wakes each that stands between the engine and its reader.
        """
        plan = self._plan
        try:
            async with self._journal.recording(plan, self._ended):
                if plan.refusal is not None:
                    await self._begun()
                    for index in range(plan.limits.n):
                        yield self._choices[index].take(Piece(index=index, text=plan.refusal, finish="stop"))
                    return
                with Ending(self._engine, self._ticket.seconds_left) as ending:
                    loop, choices, proved = asyncio.get_running_loop(), self._choices, self._engine.proved
                    says = plan.turn.max_tokens != 0
                    if outlet is not None and says and len(choices) == 1:
                        self._outlet = outlet
                    async with aclosing(self._decoded(self._engine.decoder)) as decoded:
                        ending.waiting = asyncio.current_task(loop)
                        async for piece in decoded:
                            ending.waiting = None
                            if self._problem is not None:
                                raise self._problem
                            proved()  # every time: in a full batch a probe waits for its turn
                            if self._first_token_seconds is None:
                                await self._begun()
                            shown = choices[piece.index].take(piece if says else prompt_only(piece))
                            if piece.finish is not None:
                                so_far = choices[piece.index]
                                shown = await so_far.verify(shown, plan.turn.wishes, self._public_url)
                            yield shown
                            if ending.why is not None:
                                raise ending.why
                            ending.waiting = asyncio.current_task(loop)
        finally:
            ended = self.reply()
            rewriting = plan.query.tokens if plan.query else 0
            self._ticket.leave(ended.usage.prompt_tokens + ended.usage.completion_tokens + rewriting)
            self._metrics.replied(ended)

    async def _begun(self) -> None:
        """The first piece is here; nothing of it may be told before the exposure is on disk."""
        await self._exposed  # its disk flush hides behind the prefill
        self._first_token_seconds = time.perf_counter() - self._plan.started

    def _show(self, piece: Piece) -> bool:
        """Past all who wait for the next piece, unless it is one that has to be waited for.

        A reader who is behind, and the end, whose citations are looked up. The first one finds no way yet.
        """
        framed, writer = self._outlet.framed, self._outlet.writer
        if framed is None or writer is None or piece.finish is not None or not writer.open:
            return False
        try:
            self._engine.proved()
            if frame := framed(self._choices[0].take(piece)):
                writer.write(frame)
        except Exception as problem:  # whoever decodes has other streams, too
            self._problem = problem
            return False
        return True

    def _decoded(self, decoder: Decoder) -> AsyncGenerator[Piece]:
        plan = self._plan
        adapter = plan.adapter.reference if plan.adapter else None
        return decode_all(
            decoder, plan.prompts, plan.limits, request_id=plan.turn.id, adapter=adapter, show=self._show
        )

    def reply(self) -> Reply:
        """The whole answer once the stream has ended, until then everything said so far."""
        return self._ended_as or self._reply(None)

    def _reply(self, outcome: Literal["cancelled", "failed"] | None) -> Reply:
        choices = tuple(so_far.choice(index) for index, so_far in enumerate(self._choices))
        finishes = [choice.finish for choice in choices]
        return Reply(
            plan=self._plan,
            choices=choices,
            usage=self.usage(),
            outcome=outcome or ("length" if "length" in finishes else "stop"),
            citations_dropped=sum(so_far.citer.dropped for so_far in self._choices if so_far.citer),
            first_token_seconds=self._first_token_seconds,
            total_seconds=time.perf_counter() - self._plan.started,
        )

    def usage(self) -> Usage:
        if self._plan.refusal is not None:
            return Usage(prompt_tokens=0, completion_tokens=0)
        # The prompt is counted once however many choices; what was cached of it, as the first choice saw it.
        firsts = self._choices[:: self._plan.limits.n]
        return Usage(
            prompt_tokens=self._plan.prompt_tokens,
            completion_tokens=sum(len(so_far.tokens) for so_far in self._choices),
            cached_tokens=sum(so_far.cached_tokens for so_far in firsts),
        )

    def _ended(self, outcome: Literal["cancelled", "failed"] | None) -> Reply:
        self._ended_as = self._reply(outcome)  # once: journal, metrics and the body all ask for it
        return self._ended_as


def prompt_only(piece: Piece) -> Piece:
    """max_tokens 0 with echo asks for the prompt alone; engines generate one token all the same."""
    return replace(piece, text="", tokens=(), logprobs=None, finish=piece.finish and "length")


def decode_all(
    decoder: Decoder,
    prompts: Sequence[tuple[int, ...]],
    limits: Limits,
    *,
    request_id: str,
    adapter: str | None = None,
    show: Show | None = None,
) -> AsyncGenerator[Piece]:
    """Pieces of every prompt's choices, interleaved; choice indexes are prompt-major.

    `show` is for an answer of one choice.
    """
    if len(prompts) == 1:
        return decoder.decode(prompts[0], limits, request_id=request_id, adapter=adapter, show=show)
    streams = [
        decoder.decode(prompt, limits, request_id=f"{request_id}-{number}", adapter=adapter)
        for number, prompt in enumerate(prompts)
    ]
    return _merged(streams, limits.n)


async def _merged(streams: Sequence[AsyncGenerator[Piece]], n: int) -> AsyncGenerator[Piece]:
    """Several prompts' pieces as they come; choice indexes are prompt-major."""
    ready: asyncio.Queue[Piece | None] = asyncio.Queue(maxsize=64)

    async def pump(number: int, stream: AsyncGenerator[Piece]) -> None:
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                await ready.put(replace(piece, index=number * n + piece.index))

    async def all_of_them() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number, stream in enumerate(streams):
                    group.create_task(pump(number, stream))
        finally:
            await ready.put(None)

    running = asyncio.create_task(all_of_them())
    try:
        while (piece := await ready.get()) is not None:
            yield piece
        try:
            await running
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
    finally:
        running.cancel()
        while not running.done():  # a pump may be waiting for room in the queue
            while not ready.empty():
                ready.get_nowait()
            await asyncio.sleep(0)
