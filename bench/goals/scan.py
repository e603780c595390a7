"""G8: the exact search against the memory's bandwidth, and against a bare matrix product with selection."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import faiss
import numpy as np

from bench.command import goal_options, measured
from bench.goals import scan_card
from bench.machine import Watch
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Sample, estimate, floor, interleave, level, ratio
from bench.rows import DIMENSION, TOP, copier, plain_flat, product_and_top, random_rows, recall, seconds
from indexer.machine import cores
from indexer.vectors import StoredVectors, nearest_each

ROWS, QUICK_ROWS = 1_000_000, 200_000
BATCHED_ROWS = 200_000  # at 256 questions a call, so that a round takes seconds
ROUNDS, QUICK_ROUNDS = 5, 3
BATCHES = (1, 16, 256)
SAME_AS_FP32 = 0.999


async def measure(rows: int, count: int, say: Callable[[str], object]) -> Result:
    """On the processor, all cores."""
    watch = Watch()
    faiss.omp_set_num_threads(cores())
    wide = random_rows(rows, 1)
    half = wide.astype(np.float16)
    queries = random_rows(max(BATCHES), 2)
    ids = np.arange(rows)
    arms: dict[str, Sample] = {"copy": _sample(copier(wide))}
    for name, stored in (("fp32", wide), ("fp16", half)):
        for batch in BATCHES:
            part = stored if batch < BATCHES[-1] else stored[:BATCHED_ROWS]
            asked, some = queries[:batch], ids[: len(part)]
            ours = StoredVectors(some, part, {})
            arms[f"ours {name} {batch}"] = _timed(partial(nearest_each, [ours], asked, TOP))
            plain = plain_flat(part)
            arms[f"faiss {name} {batch}"] = _timed(partial(plain.search, asked, TOP))
            if name == "fp32":
                arms[f"product {batch}"] = _timed(partial(product_and_top, part, asked))
    rounds = await interleave(arms, count, say)

    truth = [ranked.ids for ranked in nearest_each([StoredVectors(ids, wide, {})], queries, TOP)]
    found = [ranked.ids for ranked in nearest_each([StoredVectors(ids, half, {})], queries, TOP)]
    same = recall(found, truth)
    exact = recall(truth[:16], product_and_top(wide, queries[:16]))
    noise = floor(rounds, "ours fp32 1", "ours fp16 1", "copy")
    share = {
        name: estimate(
            [
                stored.nbytes / ours.mean / copied.mean
                for ours, copied in zip(rounds[f"ours {name} 1"], rounds["copy"], strict=True)
            ]
        )
        for name, stored in (("fp32", wide), ("fp16", half))
    }
    against = {
        (name, batch): ratio(rounds, f"product {batch}", f"ours {name} {batch}")
        for name in ("fp32", "fp16")
        for batch in BATCHES
    }
    bars = [
        *(
            Bar(name=f"{name} bytes/s ÷ copy, one question", measured=share[name], sense="at least",
                must=0.70, moon=0.90)
            for name in share
        ),
        *(
            Bar(name=f"fp32 ÷ numpy product + selection, batch {batch}", measured=against["fp32", batch],
                sense="at least", must=0.90)
            for batch in BATCHES
        ),
        *(
            Bar(name=f"fp16 ÷ numpy product + selection, batch {batch}", measured=against["fp16", batch])
            for batch in BATCHES
        ),
        Bar(name="fp16 recall@10 of fp32", measured=estimate([same]), sense="at least", must=SAME_AS_FP32),
    ]  # fmt: skip
    return Result(
        goal="scan",
        title="G8: exact search",
        workload=(
            f"{rows:,} × {DIMENSION} unit vectors, top {TOP}, {cores()} cores, {count} rounds; "
            f"batches of 256 on {BATCHED_ROWS:,}"
        ),
        bars=bars,
        ratio=share["fp32"],
        noise_floor=noise,
        rounds=rounds,
        arms={
            name: {("bytes/s" if name == "copy" else "seconds a call"): level(rounds, name)} for name in arms
        },
        checks=[
            Check("fp32 finds what numpy's product finds", exact >= SAME_AS_FP32, f"recall {exact:.4f}"),
        ],
        machine=watch.describe(),
        plot=Plot(
            x="questions a call",
            y="speed ÷ numpy product + selection",
            curves=[
                Curve(name=f"{kind}", x=BATCHES, y=[_against(rounds, kind, batch) for batch in BATCHES])
                for kind in ("ours fp32", "ours fp16", "faiss fp32", "faiss fp16")
            ],
            limit=0.90,
        ),
        notes=(
            "A copy's bytes count once read and once written.",
            "`faiss` is IndexFlatIP and a 16-bit IndexScalarQuantizer as they come, on the same memory.",
        ),
    )


def _against(rounds: Any, kind: str, batch: int) -> Any:
    return ratio(rounds, f"product {batch}", f"{kind} {batch}")


def _timed(work: Callable[[], object]) -> Sample:
    return _sample(lambda: seconds(work))


def _sample(work: Callable[[], float]) -> Sample:
    async def sample() -> float:
        return work()

    return sample


@click.command()
@goal_options
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rows", type=int, help="Vectors; else a million, and on a card ten million as well.")
def command(quick: bool, out: Path, anyway: bool, device: str, rows: int | None) -> None:
    """Exact search over bandwidth and over a bare product (G8)."""
    many, count = (QUICK_ROWS, QUICK_ROUNDS) if quick else (ROWS, ROUNDS)

    def work(say: Callable[[str], object]) -> Awaitable[Result]:
        if device == "cuda":
            return scan_card.measure(rows or many, (rows or many) * (1 if rows else 10), count, say)
        return measure(rows or many, count, say)

    measured(work, out=out, anyway=anyway)
