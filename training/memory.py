"""Peak memory of a stretch of work: of the card where there is one, of this process otherwise."""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path

import torch

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def reset_peak() -> None:
    """The next `peak_bytes` is of what happens from here on."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not in every container; then the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def peak_bytes() -> int:
    """Of the card's allocator, or the resident set of the process, since `reset_peak`."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    found = _PEAK.search(Path("/proc/self/status").read_text())
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
