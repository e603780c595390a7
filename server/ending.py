"""What ends an answer before the model does: its deadline, or the loss of the engine."""

import asyncio
from functools import partial
from typing import Any

from server.engine import LOST, Engine
from server.errors import DeadlineExceeded, EngineUnavailable, ServerError


class Ending:
    """A block in which an answer waits for the engine, piece after piece, `seconds` long at most.

    Only our own waiting is cut short: whoever waits says so in `waiting`, and takes it back before he does
    anything else. It is the task of each time, for a generator's callers may change tasks. Once there is a
    reason to end, `why` has it; who was waiting leaves the block by it.
    """

    def __init__(self, engine: Engine, seconds: float) -> None:
        self.why: ServerError | None = None
        self.waiting: asyncio.Task[Any] | None = None
        late = DeadlineExceeded("the answer did not end within the request's deadline; ask for fewer tokens")
        lost = EngineUnavailable(LOST, retry_after_seconds=30)
        self._timer = asyncio.get_running_loop().call_later(max(seconds, 0), self._end, late)
        self._telling = engine.telling(partial(self._end, lost))

    def __enter__(self) -> "Ending":
        self._telling.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._telling.__exit__()
        self._timer.cancel()
        if kind is asyncio.CancelledError and self.why is not None and self.waiting is not None:
            self.waiting.uncancel()
            raise self.why from None

    def _end(self, why: ServerError) -> None:
        self.why = self.why or why
        if self.waiting is not None:
            self.waiting.cancel()
