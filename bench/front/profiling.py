"""cProfile's view of the loop's thread while an arm works."""

import cProfile
import io
import pstats
from collections.abc import Awaitable, Callable
from typing import Any

from bench.host import Host

PROFILE = cProfile.Profile()


async def profiled(host: Host, sample: Callable[[], Awaitable[float]]) -> str:
    """One sample under cProfile in the loop's thread, by own and by cumulative time."""
    await host.call(profile_begins)
    await sample()
    found: str = await host.call(profile_ends)
    return found


async def profile_begins(decoder: Any) -> None:
    PROFILE.enable()


async def profile_ends(decoder: Any) -> str:
    PROFILE.disable()
    said = io.StringIO()
    stats = pstats.Stats(PROFILE, stream=said)
    stats.sort_stats("tottime").print_stats(80)
    stats.sort_stats("cumulative").print_stats(220)
    PROFILE.clear()
    return said.getvalue()
