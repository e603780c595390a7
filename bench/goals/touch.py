"""One document added to a large store, seen, and deleted; and how fast the store opens.

Through the product's own pipeline: the file is read in the child, cut, written, flushed to disk and
published, and the clock stops when a search finds it. Vectors of passages are random (bench/library.py):
embedding one is the embedder's own matter and stands apart. Opening is held against reading the files.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from bench.command import goal_options, measured
from bench.library import STORE, Chance, fill
from bench.machine import Watch
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, estimate
from indexer.backlog import Quiet
from indexer.catalogue import Catalogue
from indexer.deleting import delete_file, find_file
from indexer.embedders import Embedders
from indexer.embedding import open_embedder
from indexer.ingest import ingest
from indexer.sandbox import Sandbox
from indexer.seams import Embedder
from indexer.search import Searcher
from indexer.segments import stores_folder
from indexer.splitting import Splitting
from server.settings import load_settings

ADD_MS, DELETE_MS, OPENING = 50.0, 5.0, 1.5
OPENING_PASSAGES = (
    1_000_000  # below, what every opening costs weighs more than the files; `ann` has a million
)
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    documents: int  # added and deleted, one after the other
    openings: int
    passages: int


QUICK = Effort(documents=5, openings=3, passages=2_000)
FULL = Effort(documents=40, openings=9, passages=100_000)


class Touched:
    """A store of `passages` under the hand of one caller."""

    def __init__(self, data: Path, embedder: Embedder, scratch: Path) -> None:
        self._data, self._scratch = data, scratch
        self._embedder = Chance(embedder)
        self._catalogue, self._sandbox = Catalogue(data), Sandbox()
        self._sandbox(b"warm up", "a.txt")  # the fork server starts once per command, not per document
        self._searcher = Searcher(data, Embedders(None, self._embedder))
        self._word = f"w{time.time_ns()}"  # no other run's
        self.wrong: list[str] = []
        self.adds: list[float] = []  # ms, all of it
        self.found: list[float] = []  # ms, the search at its end
        self.deletes: list[float] = []  # ms

    def one(self, number: int) -> None:
        """Add, see, delete, see no more."""
        word = f"{self._word}n{number}"
        file = self._scratch / f"{word}.txt"
        file.write_text(f"{word} is said here and nowhere else, among a few words about ducks and ponds.")
        began = time.perf_counter()
        ingest(
            self._catalogue, STORE, [file], self._embedder, self._sandbox, Splitting(), Quiet()
        )  # fmt: skip
        published = time.perf_counter()
        seen = self._sees(word)
        ended = time.perf_counter()
        store = self._catalogue.store(STORE)
        file_id = find_file(self._catalogue, store, str(file))
        asked = time.perf_counter()
        delete_file(self._catalogue, store, file_id)
        gone = time.perf_counter()
        if not seen or self._sees(word):
            self.wrong.append(f"{word}: {'still' if seen else 'never'} found")
        self.adds.append(1e3 * (ended - began))
        self.found.append(1e3 * (ended - published))
        self.deletes.append(1e3 * (gone - asked))

    def opening(self) -> tuple[float, float]:
        """Seconds by which a new searcher's first answer takes longer than its next; of reading its files."""
        files = [
            path
            for path in stores_folder(self._data, self._catalogue.store(STORE).id).rglob("*")
            if path.is_file()
        ]
        began = time.perf_counter()
        for path in files:
            with path.open("rb", buffering=0) as file:
                while file.read(BLOCK):
                    pass
        read = time.perf_counter()
        searcher = Searcher(self._data, Embedders(None, self._embedder))
        try:
            searcher.search("ducks and ponds", [STORE])
            first = time.perf_counter()
            searcher.search("ponds and ducks", [STORE])
            return (first - read) - (time.perf_counter() - first), read - began
        finally:
            searcher.close()

    def close(self) -> None:
        self._searcher.close()
        self._sandbox.close()
        self._catalogue.close()

    def _sees(self, word: str) -> bool:
        return bool(self._searcher.search(word, [STORE], mode="keyword").hits)


async def measure(data: Path, embedder: Embedder, effort: Effort, say: Callable[[str], object]) -> Result:
    watch = Watch()
    embedder.query("warm up")
    began = time.perf_counter()
    embedder.passages(["a few words about ducks and ponds, as long as the documents that are added here"])
    embedding = 1e3 * (time.perf_counter() - began)
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as scratch:
        touched = Touched(data, embedder, Path(scratch))
        try:
            touched.one(0)
            for kept in (touched.adds, touched.found, touched.deletes):
                kept.clear()
            for number in range(1, effort.documents + 1):
                touched.one(number)
            say(f"add {median(touched.adds):.1f} ms, delete {median(touched.deletes):.1f} ms")
            touched.opening()
            opened = [touched.opening() for _ in range(effort.openings)]
        finally:
            touched.close()
    opening = estimate([mine / raw for mine, raw in opened])
    bounded = OPENING if effort.passages >= OPENING_PASSAGES else None
    return Result(
        goal="touch",
        title="One document in and out of a large store, and how fast the store opens",
        workload=(
            f"{effort.passages:,} passages, {effort.documents} documents added and deleted, one by one, "
            f"{effort.openings} openings; random vectors"
        ),
        bars=[
            Bar(name="add, until a search finds it", measured=estimate(touched.adds), unit="ms", must=ADD_MS),
            Bar(
                name="delete, when the call returns",
                measured=estimate(touched.deletes),
                unit="ms",
                must=DELETE_MS,
            ),
            Bar(name="opening (first answer less the next) ÷ reading", measured=opening, must=bounded),
            Bar(name="of the add: the search that finds it", measured=estimate(touched.found), unit="ms"),
        ],
        ratio=opening,
        noise_floor=0.0,
        rounds={"opened": [list(pair) for pair in opened]},
        arms={
            "documents": {"add p99 ms": max(touched.adds), "delete p99 ms": max(touched.deletes)},
            "embedder": {"one passage ms": embedding},
            "reading": {"seconds": estimate([raw for _, raw in opened])},
        },
        checks=[Check("found when added, not when deleted", not touched.wrong, "; ".join(touched.wrong[:2]))],
        machine=watch.describe(),
        plot=Plot(
            x="document",
            y="ms",
            curves=[
                Curve(name=name, x=list(range(len(some))), y=[Interval(one, one, one) for one in some])
                for name, some in (("add", touched.adds), ("delete", touched.deletes))
            ],
            limit=ADD_MS,
        ),
        notes=("The files lie in the page cache in both arms of the opening.",),
    )


@click.command()
@goal_options
@click.option("--passages", type=click.IntRange(1), help="Of the store.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Keeps the store, or has it already."
)
def command(quick: bool, out: Path, anyway: bool, passages: int | None, data: Path | None) -> None:
    """One document added to a large store, seen, deleted; and opening it."""
    chosen = QUICK if quick else FULL
    effort = Effort(
        documents=chosen.documents, openings=chosen.openings, passages=passages or chosen.passages
    )

    async def run(say: Callable[[str], object]) -> Result:
        embedder = open_embedder("all-minilm-l6-v2", load_settings().paths.cache / "models")
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as scratch:
            place = data or Path(scratch)
            fill(place, effort.passages, embedder, say)
            return await measure(place, embedder, effort, say)

    measured(run, out=out, anyway=anyway)
