"""G9: the approximate indexes: recall against speed, and what filters, tombstones and a reload cost."""

import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import faiss
import numpy as np

from bench.command import goal_options, measured
from bench.goals import ann_card
from bench.machine import Watch
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, Sample, estimate, floor, interleave, level, ratio
from bench.rows import DIMENSION, TOP, clustered_rows, recall, seconds
from indexer.machine import cores
from indexer.vectors import NONE, StoredVectors, Wanted, choose, is_rows, nearest, read, write

ROWS, QUICK_ROWS = 1_000_000, 50_000
ROUNDS, QUICK_ROUNDS = 5, 3
QUESTIONS = 100
LADDER = {"hnsw": (16, 32, 64, 128, 256), "ivf": (2, 4, 8, 16, 32, 64)}
TARGET = 0.95
SHARE, DEAD = 0.1, 0.3
_Faiss: Any = faiss


class Built(NamedTuple):
    """One kind of index, as a store would have it, and the plain one of the library."""

    stored: StoredVectors
    raw: Callable[[Any, int], Any]  # question, effort -> (scores, ids)
    seconds: float
    reload: Interval  # opening ÷ reading the files


async def measure(rows: int, count: int, real: Path | None, say: Callable[[str], object]) -> Result:
    """On the processor."""
    watch = Watch()
    everything = clustered_rows(rows, 2, real)
    questions = clustered_rows(QUESTIONS, 3, real)
    ids = np.arange(rows)
    flat = StoredVectors(ids, everything, {})
    truth = [nearest([flat], one, TOP).ids for one in questions]
    allowed = ids[np.random.default_rng(5).random(rows) < SHARE]
    hidden = ids[np.random.default_rng(6).random(rows) < DEAD]
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as folder:
        built = {kind: _build(Path(folder), kind, everything, say) for kind in LADDER}
    arms: dict[str, Sample] = {
        "flat": _each([flat], questions[:10]),
        "flat filter": _each([flat], questions[:10], NONE, allowed),
        "remove_ids": _removal(everything),
        "tombstone": _timed(lambda: np.insert(hidden, np.searchsorted(hidden, 7), 7), 1),
    }
    found: dict[str, float] = {}
    efforts: dict[str, int] = {}
    scanned: set[str] = (
        set()
    )  # arms whose walk would meet half of the rows: ours looks at all of them instead
    for kind, index in built.items():
        shortcut: Any = index.stored.shortcut
        chosen = efforts[kind] = shortcut.effort
        for effort in sorted({*LADDER[kind], chosen}):
            arms[f"{kind} {effort}"] = _each([index.stored], questions, effort=effort)
            arms[f"{kind} {effort} raw"] = _bare(index.raw, questions, effort)
            shortcut.effort = effort
            found[f"{kind} {effort}"] = recall(
                [nearest([index.stored], one, TOP).ids for one in questions], truth
            )
            if shortcut.visits(rows, TOP, 1.0) >= rows / 2:
                scanned.add(f"{kind} {effort}")
            bare = [index.raw(one, effort)[1][0] for one in questions]
            found[f"{kind} {effort} raw"] = recall(bare, truth)
        shortcut.effort = chosen
        for name, dead, may in (("filter", NONE, allowed), ("dead", hidden, None)):
            arms[f"{kind} {name}"] = _each([index.stored], questions, dead, may, chosen)
            exact = [nearest([flat], one, TOP, dead, may).ids for one in questions]
            found[f"{kind} {name}"] = recall(
                [nearest([index.stored], one, TOP, dead, may).ids for one in questions], exact
            )
    say(f"recall: {found}")
    rounds = await interleave(arms, count, say)
    main = f"hnsw {efforts['hnsw']}"
    walked = [name for name in found if f"{name} raw" in found and name not in scanned]
    apart = max(abs(found[name] - found[f"{name} raw"]) for name in walked)
    return Result(
        goal="ann",
        title="G9: approximate search",
        workload=f"{rows:,} × {DIMENSION} vectors in heaps ({real.name if real else 'made up'}), top {TOP}, "
        f"one question a call, {cores()} cores, {count} rounds",
        bars=[
            _bar("times as fast as flat", ratio(rounds, "flat", main), must=30, moon=100),
            _bar("recall@10 at the chosen effort", estimate([found[main]]), must=TARGET),
            _bar("÷ the library's own call", ratio(rounds, f"{main} raw", main), must=0.90, moon=0.97),
            *_costs(rounds, efforts, found),
            Bar(name="tombstone ÷ remove_ids", measured=ratio(rounds, "tombstone", "remove_ids"), must=0.05),
            Bar(name="opening ÷ reading the files, hnsw", measured=built["hnsw"].reload, must=1.5),
            Bar(name="opening ÷ reading the files, ivf", measured=built["ivf"].reload, must=1.5),
        ],
        ratio=ratio(rounds, "flat", main),
        noise_floor=floor(rounds, main, f"{main} raw"),
        rounds=rounds,
        arms={
            **{name: {"ms a question": level(rounds, name).scaled(1e3)} for name in arms},
            "recall": found,
            **{f"{kind} build": {"seconds": one.seconds, **one.stored.about} for kind, one in built.items()},
        },
        checks=[Check("the raw calls find the same", apart < 0.02, f"recall differs by {apart:.4f} at most")],
        machine=watch.describe(),
        plot=Plot(
            x="recall@10",
            y="questions a second",
            curves=[_curve(rounds, found, kind, raw) for kind in LADDER for raw in ("", " raw")],
        ),
        notes=(
            *(f"{name}: a walk would meet half of the rows: ours looks at all." for name in sorted(scanned)),
            f"Filter: {SHARE:.0%} of the rows are allowed; dead: {DEAD:.0%} are deleted.",
            "Questions come from other vectors than the rows.",
        ),
    )  # fmt: skip


def _costs(rounds: Any, efforts: Mapping[str, int], found: Mapping[str, float]) -> list[Bar]:
    bars = []
    for kind, effort in efforts.items():
        arm = f"{kind} {effort}"
        bars += [
            Bar(
                name=f"cost of a {SHARE:.0%} filter, {kind}",
                measured=ratio(rounds, f"{kind} filter", arm),
                must=1.5,
            ),
            Bar(name=f"cost of {DEAD:.0%} dead, {kind}", measured=ratio(rounds, f"{kind} dead", arm)),
            _bar(f"recall@10 under the filter, {kind}", estimate([found[f"{kind} filter"]]), must=TARGET),
            _bar(f"recall@10 with the dead, {kind}", estimate([found[f"{kind} dead"]]), must=TARGET),
        ]
    return bars


def _bar(name: str, value: Interval, must: float, moon: float | None = None) -> Bar:
    return Bar(name=name, measured=value, sense="at least", must=must, moon=moon)


def _build(folder: Path, kind: str, rows: Any, say: Callable[[str], object]) -> Built:
    """Written and opened as a segment's vectors are."""
    asked, place = Wanted(kind=kind), folder / kind
    place.mkdir()
    choice = choose(len(rows), DIMENSION, asked, 64 << 30)
    taken = seconds(lambda: write(place, np.arange(len(rows)), rows, choice, asked))
    say(f"{kind} built in {taken:.0f} s")

    def opened() -> StoredVectors:
        contents = {file.name: file.read_bytes() for file in place.iterdir() if not is_rows(file.name)}
        for content in contents.values():
            hashlib.sha256(content).hexdigest()
        return read(place, contents, DIMENSION)

    def files() -> None:
        for file in place.iterdir():
            file.read_bytes()

    files()
    reload = estimate([seconds(opened) / seconds(files) for _ in range(5)])
    stored = opened()
    shortcut: Any = stored.shortcut
    if kind == "hnsw":

        def raw(question: Any, effort: int) -> Any:
            return shortcut.graph._nodes.search(
                question[None], TOP, params=_Faiss.SearchParametersHNSW(efSearch=effort)
            )

    else:
        coarse = _Faiss.IndexFlatIP(DIMENSION)
        coarse.add(np.ascontiguousarray(shortcut._centroids))
        plain = _Faiss.IndexIVFFlat(coarse, DIMENSION, coarse.ntotal, faiss.METRIC_INNER_PRODUCT)
        plain.is_trained = True
        plain.add(rows)

        def raw(question: Any, effort: int) -> Any:
            return plain.search(question[None], TOP, params=_Faiss.SearchParametersIVF(nprobe=effort))

    return Built(stored, raw, taken, reload)


def _removal(rows: Any) -> Sample:
    """FAISS's own removal of one row from a flat index with ids."""
    index = _Faiss.IndexIDMap2(_Faiss.IndexFlatIP(DIMENSION))
    index.add_with_ids(rows, np.arange(len(rows)))
    gone = iter(range(1, len(rows), 97))
    return _timed(lambda: index.remove_ids(np.array([next(gone)])), 1)


def _each(
    segments: Any, questions: Any, hidden: Any = NONE, allowed: Any = None, effort: int | None = None
) -> Sample:
    def work() -> None:
        if effort is not None:
            segments[0].shortcut.effort = effort
        for one in questions:
            nearest(segments, one, TOP, hidden, allowed)

    return _timed(work, len(questions))


def _bare(raw: Callable[[Any, int], Any], questions: Any, effort: int) -> Sample:
    def work() -> None:
        faiss.omp_set_num_threads(1)
        for one in questions:
            raw(one, effort)

    return _timed(work, len(questions))


def _timed(work: Callable[[], object], calls: int) -> Sample:
    async def sample() -> float:
        return seconds(work) / calls

    return sample


def _curve(rounds: Any, found: Mapping[str, float], kind: str, raw: str) -> Curve:
    efforts = [effort for effort in LADDER[kind] if f"{kind} {effort}{raw}" in rounds]
    names = [f"{kind} {effort}{raw}" for effort in efforts]
    speeds = [estimate([1 / pair.mean for pair in rounds[name]]) for name in names]
    return Curve(name=f"{kind}{raw}", x=[found[name] for name in names], y=speeds)


@click.command()
@goal_options
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--rows", type=int, help="Vectors; else a million.")
@click.option(
    "--vectors", type=click.Path(exists=True, path_type=Path), help="Unit rows of a model, as .npy."
)
def command(
    quick: bool, out: Path, anyway: bool, device: str, rows: int | None, vectors: Path | None
) -> None:
    """Approximate search: recall, speed, filters, tombstones, reload (G9)."""
    many, count = (QUICK_ROWS, QUICK_ROUNDS) if quick else (ROWS, ROUNDS)

    def work(say: Callable[[str], object]) -> Awaitable[Result]:
        on = ann_card.measure if device == "cuda" else measure
        return on(rows or many, count, vectors, say)

    measured(partial(work), out=out, anyway=anyway)
