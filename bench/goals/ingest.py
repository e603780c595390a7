"""G10: from text to searchable, against the encoder alone.

`bench.ingest` measures; here its figures meet their bar. It runs in a process of its own with one arithmetic
thread, so that threads that wait for each other do not count as work.
"""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from bench.command import goal_options, measured
from bench.machine import Watch
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.rounds import estimate

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "abstracts.jsonl"
MUST, MOON = 0.90, 0.97  # CPU
INT8_MUST = 2.0  # over the library's own encode
INT8 = importlib.util.find_spec("onnxruntime") is not None
ROWS, QUICK_ROWS = 120, 40
RUNS, QUICK_RUNS = 5, 3


async def measure(rows: int, runs: int, corpus: Path, say: Callable[[str], object]) -> Result:
    """The ratio of processor seconds is the bar; that of the clock stands beside it."""
    watch = Watch()
    found = []
    for number in range(runs):
        found.append(await asyncio.to_thread(_figures, rows, corpus))
        said = {name: found[-1][name] for name in ("searchable", "encode", "processor_ratio")}
        say(f"run {number + 1} of {runs}: {said}")
    spent = estimate([run["processor_ratio"] for run in found])
    clock = estimate([run["ratio"] for run in found])
    default = estimate([run["default_processor_ratio"] for run in found])
    encoded = [run["encode"]["processor"] for run in found]
    itself = estimate([later / earlier for earlier, later in pairwise(encoded)])
    return Result(
        goal="ingest",
        title="G10: text to searchable, against the encoder alone",
        workload=(
            f"{rows} abstracts of the demo, one arithmetic thread; "
            f"bare `encode` of the same texts; {runs} runs"
        ),
        bars=[
            Bar(
                name="processor seconds, encode ÷ text to searchable",
                measured=spent,
                sense="at least",
                must=MUST,
                moon=MOON,
            ),
            Bar(name="seconds on the clock, encode ÷ text to searchable", measured=clock),
            Bar(
                name="processor seconds, the library's default encode ÷ text to searchable", measured=default
            ),
            *_quantised(found),
        ],
        ratio=spent,
        noise_floor=max(abs(itself.low - 1), abs(itself.high - 1)),
        rounds={"runs": found},
        arms={
            name: {
                f"{kind} seconds": estimate([run[name][kind] for run in found])
                for kind in ("processor", "clock")
            }
            for name in ("searchable", "encode", "default_encode", *(("int8",) if INT8 else ()))
        },
        checks=[Check("every run embedded the same chunks", len({run["chunks"] for run in found}) == 1)],
        machine=watch.describe(),
        plot=Plot(
            x="documents",
            y="encode ÷ text to searchable",
            curves=[
                Curve(name="processor", x=[rows], y=[spent]),
                Curve(name="clock", x=[rows], y=[clock]),
            ],
            limit=MUST,
        ),
        notes=("The noise floor is that of the bare encoder from one run to the next.",),
    )


def _quantised(found: list[dict[str, Any]]) -> list[Bar]:
    """The quantised model's way to searchable, where ONNX Runtime is installed."""
    if not INT8:
        return []
    measured = estimate([run["int8_default_processor_ratio"] for run in found])
    name = "processor seconds, the library's default encode ÷ text to searchable with int8"
    return [Bar(name=name, measured=measured, sense="at least", must=INT8_MUST)]


def _figures(rows: int, corpus: Path) -> dict[str, Any]:
    """What one `python -m bench.ingest` prints. Raises NotMeasured when it fails."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as pack:
        Path(pack, "corpus.jsonl").symlink_to(corpus.absolute())
        done = subprocess.run(
            [sys.executable, "-m", "bench.ingest", "--data", pack, "--rows", str(rows), "--turns", "1"]
            + ["--int8"] * INT8,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise NotMeasured(f"bench.ingest ended with {done.returncode}:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


@click.command()
@goal_options
@click.option(
    "--corpus",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=DEMO,
    help="A corpus.jsonl of your own; else the demo's abstracts.",
)
def command(quick: bool, out: Path, anyway: bool, corpus: Path) -> None:
    """Text to searchable over the bare encoder (G10)."""
    rows, runs = (QUICK_ROWS, QUICK_RUNS) if quick else (ROWS, RUNS)
    measured(lambda say: measure(rows, runs, corpus, say), out=out, anyway=anyway)
