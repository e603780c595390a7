"""The C library's heap, kept as small as what lives in it.

glibc gives threads heaps of their own, eight for each core, and a page goes back to the system only from the
end of one. A server whose searches, journal and uploads take turns on dozens of threads then holds the peak
of every thread for good: 24 MB more in the first half hour of an even load on two cores. So threads share a
few heaps, and pages that are free go back once a minute.
"""

import asyncio
import ctypes

ARENAS = 4  # heaps: more are for programs whose threads do little but allocate
SECONDS = 60.0  # between two returns of what is free; one takes some milliseconds of a thread
_M_ARENA_MAX = -8  # of mallopt(3)


def share() -> bool:
    """Let all threads of this process share a few heaps; False where the C library has no such knob."""
    return _asked("mallopt", _M_ARENA_MAX, ARENAS)


def give_back() -> bool:
    """Return free pages to the system; whether there were any. False where the C library cannot."""
    return _asked("malloc_trim", 0)


async def stay_small() -> None:
    """Give back what is free, again and again."""
    while True:
        await asyncio.sleep(SECONDS)
        await asyncio.to_thread(give_back)


def _asked(function: str, *arguments: int) -> bool:
    """Whether the C library has this function and it did something; others run meanwhile."""
    try:
        return bool(getattr(ctypes.CDLL(None), function)(*arguments))
    except (AttributeError, OSError):
        return False
