"""Processor time of processes, which survives a busy machine better than time on the clock."""

import time
from collections.abc import Iterable

SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of linux/posix-timers.h


def seconds(pid: int) -> float:
    """User and system time of a living process, all its threads, ended ones included; nanosecond steps.

    The clock id is the one that clock_getcpuclockid(3) makes of a pid on Linux. Raises OSError when there
    is no such process.
    """
    return time.clock_gettime((~pid << 3) | SCHEDULER_CLOCK)


def total(pids: Iterable[int]) -> float:
    return sum(map(seconds, pids))
