"""When a stream fetches its next tokens: at once while few are streaming, with later ones under load.

An event costs the front end the same whether it carries one token or twenty: waking a task, a frame, a call
of the system. So with n streams each rests h = n · EVENT_SECONDS ÷ SHARE after an event, at most
`most_seconds`: until the most is reached, events take no more than SHARE of a core. The engine goes on
meanwhile, and gives what has come in one piece. A first token is never held, and one that comes later than h
after the last event travels at once.

Who rests is woken together with others, by one timer for all.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

EVENT_SECONDS = 40e-6  # measured: bench per_token, paced, one token an event
SHARE = 1 / 16  # of a core
LEAST_SECONDS = 0.002  # shorter rests gain nothing: fewer than four streams never rest
TOGETHER = 32  # woken in one turn of the event loop; between two turns the others get a word in


def rest_seconds(streams: int, most_seconds: float) -> float:
    """How long a stream rests at most after an event, by the number of streams now; 0 for not at all."""
    wanted = min(streams * EVENT_SECONDS / SHARE, most_seconds)
    return wanted if wanted >= LEAST_SECONDS else 0.0


class Coalescing:
    """`streams` says how many are being answered now; `most_seconds` 0 means never to rest."""

    def __init__(self, streams: Callable[[], int], *, most_seconds: float = 0.02) -> None:
        self._streams = streams
        self._most_seconds = most_seconds
        self._resting: list[Callable[[], object]] = []

    @property
    def rest_seconds(self) -> float:
        """Of as many streams as there are now."""
        return rest_seconds(self._streams(), self._most_seconds)

    def call(self, back: Callable[[], object], loop: asyncio.AbstractEventLoop) -> bool:
        """Call `back` at the next beat, which is at most `rest_seconds` away; False: nobody rests now.

        Looks at the streams once a beat: it is called at every event.
        """
        if not self._resting:
            seconds = self.rest_seconds
            if not seconds:
                return False
            loop.call_later(seconds, self._beat, loop)
        self._resting.append(back)
        return True

    async def rest(self) -> None:
        """Until the next beat; not at all where nobody rests now."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        if self.call(partial(_end, place), loop):
            await place

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        resting, self._resting = self._resting, []
        self._wake(resting, loop)

    def _wake(self, resting: Sequence[Callable[[], object]], loop: asyncio.AbstractEventLoop) -> None:
        if len(resting) > TOGETHER:
            loop.call_soon(self._wake, resting[TOGETHER:], loop)
        for back in resting[:TOGETHER]:
            try:
                back()
            except Exception as problem:  # of one stream; the others are to be woken all the same
                loop.call_exception_handler({"message": "a stream was not woken", "exception": problem})


def _end(place: "asyncio.Future[None]") -> None:
    if not place.done():  # else its stream has ended
        place.set_result(None)
