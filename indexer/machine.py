"""What this machine has to give."""

import os
from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or the container's where that is less."""
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _LIMITS:
        try:
            least = min(least, int(limit.read_text()))
        except (OSError, ValueError):  # no such container, or "max"
            continue
    return least
