"""An engine's tokens on their way to those who stream them: told when it pays, in one piece.

vLLM makes an output of every token of every stream, merges it into the last one where nobody has fetched
that, and wakes the reader: half of what its front end costs a token. Here a stream's state keeps its tokens
(`stream_interval` of vLLM's RequestState), so that vLLM only detokenises and counts them, and after a step of
the engine whoever is due gets all that has come. First and last outputs, aborts and failures are vLLM's own.

A token is due when the next step would find it older than `rest_seconds` (server/coalescing.py), so none
waits for longer than that or than one step. Between two steps a timer looks after the engine that falters.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from server.coalescing import rest_seconds
from server.errors import EngineUnavailable
from server.records import Piece
from server.seams import Show
from server.vllm_decoder.pieces import as_pieces

UNDECODED = "the engine could not decode this; ask again"
KEEPS = 2**62  # tokens: a stream's state tells nothing of itself between its first and its last output
NEEDED = {"queue", "stream_interval", "sent_tokens_offset", "detokenizer", "logprobs_processor"}
STEADY = 0.2  # weight of the last step in the length expected of the next one


def keeps_tokens(engine: Any) -> bool:
    """Whether this vLLM's requests can keep their tokens; 0.25 to 0.32 can."""
    from vllm.v1.engine.output_processor import RequestState

    has = {"request_states", "process_outputs"} <= set(dir(getattr(engine, "output_processor", None)))
    return has and set(RequestState.__init__.__code__.co_names) >= NEEDED


class Streams:
    """The streams of one AsyncLLM; `most_seconds` is the longest rest, 0 for none. One event loop."""

    def __init__(self, engine: Any, most_seconds: float) -> None:
        self._engine = weakref.ref(engine)  # its own tasks do not hold it either, so that it can end
        self._processor = engine.output_processor
        self._most_seconds = most_seconds
        self._streams: dict[str, Stream] = {}
        self._stepped_at = 0.0  # by the engine's clock
        self._step_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.rest_seconds = 0.0
        self._process: Callable[..., Any] = self._processor.process_outputs
        self._processor.process_outputs = self._processed

    async def open(
        self,
        inputs: Any,
        params: Any,
        request_id: str,
        *,
        lora: Any = None,
        skip: int = 0,
        show: Show | None = None,
    ) -> "Stream":
        """A request of one choice, begun. `skip` tokens at the prompt's beginning are shown to nobody."""
        engine: Any = self._engine()
        try:
            queue = await engine.add_request(request_id, inputs, params, lora_request=lora)
        except asyncio.CancelledError:
            await engine.abort(request_id)  # it may be known already
            raise
        state = self._processor.request_states.get(queue.request_id)
        stream = Stream(self, queue.request_id, state, skip, show)
        if (early := queue.get_nowait()) is not None:
            stream.put(early)
        if state is not None:
            state.sent_tokens_offset = state.detokenizer.num_output_tokens()
            state.stream_interval = KEEPS
            state.queue = stream
            self._streams[queue.request_id] = stream
        return stream

    async def close(self, stream: "Stream") -> None:
        """End it, in the engine too where it has not ended."""
        self._streams.pop(stream.id, None)
        engine: Any = self._engine()
        if not stream.ended and engine is not None and not engine.errored:
            await engine.abort(stream.id, internal=True)

    def _processed(
        self, outputs: Sequence[Any], timestamp: float | None = None, *more: Any, **named: Any
    ) -> Any:
        """vLLM's process_outputs, and then whoever is due."""
        done = self._process(outputs, timestamp, *more, **named)
        if self._streams:
            self._stepped(outputs, timestamp)
        return done

    def _stepped(self, outputs: Sequence[Any], timestamp: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if timestamp is not None and timestamp != self._stepped_at:  # a message comes in several slices
            self._step_seconds += STEADY * (min(timestamp - self._stepped_at, 1.0) - self._step_seconds)
            self._stepped_at = timestamp
        self.rest_seconds = rest = rest_seconds(len(self._streams), self._most_seconds)
        last = now + self._step_seconds - rest  # whoever has had a token since then cannot wait another step
        kept = False
        streams = self._streams
        for output in outputs:
            stream = streams.get(output.request_id)
            if stream is None:
                continue
            if not stream.since and stream.keeps:
                stream.since = now
            if stream.since and stream.waits:
                if stream.since < last or not rest:
                    stream.tell()
                else:
                    kept = True
        if kept:
            self.watch()

    def watch(self) -> None:
        """Somebody waits and has tokens that are kept."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.rest_seconds, self._late)

    def _late(self) -> None:
        """Whoever's tokens have waited long enough, step or no step."""
        loop = asyncio.get_running_loop()
        self._timer = None
        oldest = 0.0
        for stream in self._streams.values():
            if not stream.since or not stream.waits:
                continue
            if stream.since + self.rest_seconds <= loop.time() + 0.001:
                stream.tell()
            elif not oldest or stream.since < oldest:
                oldest = stream.since
        if oldest:
            self._timer = loop.call_at(oldest + self.rest_seconds, self._late)


class Stream:
    """One request's outputs; takes the place of vLLM's RequestOutputCollector in the request's state.

    Whoever waits for what is told next is woken only by what `show` does not take.
    """

    def __init__(
        self, streams: Streams, request_id: str, state: Any, skip: int, show: Show | None = None
    ) -> None:
        self.id = request_id  # vLLM's own
        self.ended = False
        self.since = 0.0  # when the oldest token came that is kept; 0: none is
        self._streams = streams
        self._state = state
        self._skip = skip
        self._show = show
        self._said: list[Piece] = []
        self._problem: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None

    @property
    def keeps(self) -> bool:
        """Whether the state has tokens that were not told."""
        state = self._state
        return not self.ended and bool(state.detokenizer.num_output_tokens() > state.sent_tokens_offset)

    @property
    def waits(self) -> bool:
        """Whether somebody does, and nothing is on its way to him."""
        return self._waiting is not None and not self._waiting.done()

    def put(self, output: Any) -> None:
        """By vLLM: the first output, the last one, or why there is none."""
        if isinstance(output, Exception):
            self.tell()  # what was said before
            self._problem = output
        elif any(choice.finish_reason == "error" for choice in output.outputs):
            self._problem = EngineUnavailable(UNDECODED)
        else:
            self._said += as_pieces(output, skip=self._skip)
            self.ended = output.finished
        self.since = 0.0
        self._wake()

    def tell(self) -> None:
        """Everything kept, as one piece."""
        state = self._state
        tokens = state.detokenizer.output_token_ids[state.sent_tokens_offset :]
        self.since = 0.0
        if not tokens:
            return
        if state.logprobs_processor.logprobs is None:
            text = state.detokenizer.get_next_output_text(False, True)
            said = [Piece(text=text, tokens=tuple(tokens), cached_tokens=state.num_cached_tokens or 0)]
        else:
            state.stream_interval = 1
            output = state.make_request_output(tokens, None, None, None)
            state.stream_interval = KEEPS
            said = as_pieces(output)
        state.sent_tokens_offset += len(tokens)
        for piece in said:
            if self._show is None or not self.waits or not self._show(piece):
                self._said.append(piece)
                self._wake()

    async def next(self) -> list[Piece]:
        """What is told next; empty after the end. Raises what vLLM raised."""
        while not self._said and not self.ended:
            if self._problem is not None:
                raise self._problem
            loop = asyncio.get_running_loop()
            if self.since:  # it came while nobody waited
                if self.since + self._streams.rest_seconds <= loop.time():
                    self.tell()
                    continue
                self._streams.watch()
            self._waiting = loop.create_future()
            await self._waiting
        said, self._said = self._said, []
        return said

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
