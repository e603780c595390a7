"""Processor time of processes, which survives a busy machine better than time on the clock."""

import time
from collections.abc import Iterable
from pathlib import Path

SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of linux/posix-timers.h


def seconds(pid: int) -> float:
    """User and system time of a living process, all its threads, ended ones included; nanosecond steps.

    The clock id is the one that clock_getcpuclockid(3) makes of a pid on Linux. Raises OSError when there
    is no such process.
    """
    return time.clock_gettime((~pid << 3) | SCHEDULER_CLOCK)


def total(pids: Iterable[int]) -> float:
    return sum(map(seconds, pids))


def memory_mb(pid: int) -> float:
    """Anonymous memory of a process, swapped out or not: what leaks. 0 when it has ended.

    Resident size alone hides a leak that is swapped out, and counts the files that are mapped.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in lines)
        if rest.endswith("kB")
    }
    return (kib.get("RssAnon", 0) + kib.get("VmSwap", 0)) / 1024


def family(pid: int) -> list[int]:
    """A living process and all under it."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def opened(pid: int) -> tuple[int, int]:
    """Open descriptors and threads of a living process."""
    at = Path(f"/proc/{pid}")
    return len(list((at / "fd").iterdir())), len(list((at / "task").iterdir()))
