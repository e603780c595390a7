"""Wait until nobody else works: engines come up while other things still run."""

import time
from collections.abc import Callable

from bench.machine import busy_cores

QUIET_CORES = 1.5
LOOK_SECONDS = 2.0


def settle(seconds: float, say: Callable[[str], object], quiet: float = QUIET_CORES) -> float:
    """Until less than `quiet` cores are busy, at most so many seconds; how many cores are busy then."""
    deadline = time.monotonic() + seconds
    while (busy := busy_cores(LOOK_SECONDS)) > quiet and time.monotonic() < deadline:
        say(f"{busy:.1f} cores are busy, waiting for quiet")
        time.sleep(LOOK_SECONDS)
    return busy
