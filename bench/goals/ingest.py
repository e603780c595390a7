"""G10: from text to searchable, against the encoder alone.

`bench.ingest` measures; here its figures meet their bar. It runs in a process of its own with one arithmetic
thread, so that threads that wait for each other do not count as work.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.command import goal_options, measured
from bench.machine import Watch
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "abstracts.jsonl"
MUST, MOON = 0.90, 0.97  # CPU
ROWS, QUICK_ROWS = 120, 40
TURNS, QUICK_TURNS = 5, 2


async def measure(rows: int, turns: int, corpus: Path, say: Callable[[str], object]) -> Result:
    """The ratio of processor seconds is the bar; that of the clock stands beside it."""
    watch = Watch()
    say(f"ingesting {rows} documents, {turns} times")
    found = await asyncio.to_thread(_figures, rows, turns, corpus)
    spent = _exactly(found.get("processor_ratio", 0.0))
    clock = _exactly(found.get("ratio", 0.0))
    return Result(
        goal="ingest",
        title="G10: text to searchable, against the encoder alone",
        workload=f"{rows} abstracts of the demo, one arithmetic thread; bare `encode` of the same texts",
        bars=[
            Bar(
                name="processor seconds, encode ÷ text to searchable",
                measured=spent,
                sense="at least",
                must=MUST,
                moon=MOON,
            ),
            Bar(name="seconds on the clock, encode ÷ text to searchable", measured=clock),
        ],
        ratio=spent,
        noise_floor=0.0,
        rounds={"medians of": turns},
        arms={name: found.get(name, {}) for name in ("searchable", "encode")},
        checks=[Check("the measurement ran to its end", bool(found))],
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
        notes=("Medians of interleaved turns; the measurement gives no interval of its own.",),
    )


def _figures(rows: int, turns: int, corpus: Path) -> dict[str, Any]:
    """What `python -m bench.ingest` prints; nothing when it fails."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as pack:
        Path(pack, "corpus.jsonl").symlink_to(corpus.absolute())
        options = ["--data", pack, "--rows", str(rows), "--turns", str(turns)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.ingest", *options],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=False,
        )
    figures: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return figures


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


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
    rows, turns = (QUICK_ROWS, QUICK_TURNS) if quick else (ROWS, TURNS)
    measured(lambda say: measure(rows, turns, corpus, say), out=out, anyway=anyway)
