"""The event loop the server runs on, and what stops it: the collector of cycles, other threads."""

import asyncio
import gc
import sys
from collections.abc import Callable

SWITCH_SECONDS = 0.0005  # a turn of the interpreter; two busy threads do no less work in all at this


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: its timers and wake-ups cost less. None: asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def settle() -> None:
    """Once all is built: nothing of that is looked at again, and what comes later less often.

    A request makes some hundreds of objects and few cycles. Looked for every 700 objects, as Python does
    unless told otherwise, they cost a request a twentieth of its time; every 10,000 of them cost half a
    millisecond at once, and next to nothing of a request.

    And a thread that has waited, for a card, a file or a product, gets the interpreter back from a busy one
    sooner than in Python's 5 milliseconds: an encoder's 150 calls beside a busy loop took 0.9 s on an H100 at
    5 ms, and 0.09 s at this.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    sys.setswitchinterval(SWITCH_SECONDS)
