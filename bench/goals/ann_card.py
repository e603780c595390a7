"""G9 on a card: CAGRA and inverted lists, ours through the dispatcher and FAISS's own call."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import Watch
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.rounds import Sample, estimate, floor, interleave, level, ratio
from bench.rows import DIMENSION, TOP, clustered_rows, recall, seconds
from indexer.vectors import StoredVectors, Wanted, nearest, nearest_each
from indexer.vectors.card import LEAST, Card
from indexer.vectors.card_thread import Asked, Placed
from indexer.vectors.choice import Choice
from indexer.vectors.cuda import CudaEngine, cards

LADDER = {"cagra": (32, 64, 128, 256), "ivf": (2, 4, 8, 16, 32, 64)}
PARAMETERS = {"cagra": {"degree": 64}, "ivf": {"lists": 4096}}
BATCHES = {1: 100, 256: 10}  # questions a call: calls a sample
TARGET = 0.95


async def measure(rows: int, count: int, real: Path | None, say: Callable[[str], object]) -> Result:
    """Exact answers come from the flat index on the same card."""
    if not cards():
        raise NotMeasured("FAISS sees no card: install faiss-gpu-cuvs in place of faiss-cpu")
    watch = Watch()
    everything = clustered_rows(rows, 2, real)
    questions = clustered_rows(1024, 3, real)
    engine = await asyncio.to_thread(CudaEngine)  # asked directly, one call after the other
    card = Card(CudaEngine)
    say("placing")
    truth_index = engine.place(everything, Choice("flat", "float16", {}, ""))
    truth = engine.search(truth_index, questions, TOP, 0).positions
    plain = nearest_each([StoredVectors(np.arange(rows), everything, {})], questions[:64], TOP)
    exact = recall(truth[:64], [ranked.ids for ranked in plain])
    arms: dict[str, Sample] = {}
    for batch, calls in BATCHES.items():
        arms[f"flat {batch}"] = _sample(partial(engine.search, truth_index), questions, batch, calls, TOP, 0)
    found: dict[str, float] = {}
    built: dict[str, float] = {}
    for key, kind in enumerate(LADDER):
        choice = Choice(kind, "float16", PARAMETERS[kind], "")  # type: ignore[arg-type]
        built[kind] = seconds(lambda c=choice, k=key: _put(card, -1 - k, everything, c))  # type: ignore[misc]
        say(f"{kind} built in {built[kind]:.1f} s")
        index = card.thread.placed[-1 - key].index
        for effort in LADDER[kind]:
            asked = (Asked(-1 - key, effort),)
            found[f"{kind} {effort}"] = recall(card.thread.ask(asked, questions, TOP).positions, truth)
            for batch, calls in BATCHES.items():
                ask = partial(card.thread.ask, asked)
                arms[f"{kind} {effort} {batch}"] = _sample(ask, questions, batch, calls, TOP)
                arms[f"{kind} {effort} {batch} raw"] = _sample(
                    partial(engine.search, index), questions, batch, calls, TOP, effort
                )
    say(f"recall: {found}")
    visible = _sample_visible(card, everything, rows, questions[0])
    arms["add visible"] = visible
    rounds = await interleave(arms, count, say)
    card.close()
    bars = []
    for kind, efforts in LADDER.items():
        enough = [effort for effort in efforts if found[f"{kind} {effort}"] >= TARGET]
        best = enough[0] if enough else efforts[-1]
        bars.append(
            Bar(
                name=f"recall@10, {kind} {best}",
                measured=estimate([found[f"{kind} {best}"]]),
                sense="at least",
                must=TARGET,
            )
        )
        for batch in BATCHES:
            arm = f"{kind} {best} {batch}"
            bars += [
                Bar(
                    name=f"{arm} ÷ the library's own call",
                    measured=ratio(rounds, f"{arm} raw", arm),
                    sense="at least",
                    must=0.90,
                    moon=0.97,
                ),
                Bar(
                    name=f"{arm}: times as fast as flat",
                    measured=ratio(rounds, f"flat {batch}", arm),
                    sense="at least",
                ),
            ]
    added = estimate([1e3 * pair.mean for pair in rounds["add visible"]])
    bars.append(Bar(name=f"{LEAST:,} rows added and found", measured=added, unit="ms", must=50))
    return Result(
        goal="ann",
        title="G9: approximate search on a card",
        workload=f"{rows:,} × {DIMENSION} vectors in heaps ({real.name if real else 'made up'}), top {TOP}",
        bars=bars,
        ratio=None,
        noise_floor=floor(rounds, "flat 1"),
        rounds=rounds,
        arms={
            **{name: {"seconds a call": level(rounds, name)} for name in arms},
            "recall": found,
            "seconds to build": built,
        },
        checks=[Check("the flat index finds what the processor finds", exact >= 0.99, f"recall {exact:.4f}")],
        machine=watch.describe(),
        plot=Plot(
            x="recall@10",
            y="questions a second",
            curves=[
                Curve(
                    name=f"{kind}, {batch} a call",
                    x=[found[f"{kind} {effort}"] for effort in efforts],
                    y=[
                        estimate([batch / pair.mean for pair in rounds[f"{kind} {effort} {batch}"]])
                        for effort in efforts
                    ],
                )
                for kind, efforts in LADDER.items()
                for batch in BATCHES
            ],
        ),
    )


def _put(card: Card, key: int, rows: Any, choice: Choice) -> None:
    card.thread.order(
        lambda engine: card.thread.placed.__setitem__(key, Placed(engine.place(rows, choice), len(rows)))
    )


def _sample(
    ask: Callable[..., Any], questions: Any, batch: int, calls: int, top: int, *effort: int
) -> Sample:
    def work() -> None:
        for call in range(calls):
            start = call * batch % (len(questions) - batch + 1)
            ask(questions[start : start + batch], top, *effort)

    async def sample() -> float:
        return seconds(work) / calls

    return sample


def _sample_visible(card: Card, everything: Any, rows: int, question: Any) -> Sample:
    """A new segment placed on the card beside what is there, and found in."""
    new = StoredVectors(np.arange(rows, rows + LEAST), np.ascontiguousarray(everything[:LEAST]), {})

    async def sample() -> float:
        return seconds(lambda: nearest([card.place(new, Wanted())], question, TOP))

    return sample
