"""G12: both legs together against the slower one, and the keyword leg against bare tantivy.

Every search embeds its question and reads its hits' text, as a caller's does. The bare arm asks the same
tantivy segments for the same terms, already analysed, and takes the ids.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import tantivy

from bench.command import goal_options, measured
from bench.machine import Watch
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.retrieval import fill, rows
from bench.rounds import Interval, Rounds, Sample, floor, interleave, level, ratio
from indexer import keywords
from indexer.catalogue import Catalogue
from indexer.embedders import Embedders
from indexer.embedding import open_embedder
from indexer.errors import EmbedderMissing, UnknownStore
from indexer.seams import Embedder, Vectors
from indexer.search import DEPTH, Mode, Searcher
from indexer.segments import stores_folder

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "abstracts.jsonl"
MODELS = Path("~/.cache/fewshot/models").expanduser()
LATENCY, LATENCY_MOON = 1.25, 1.05
SHARE, SHARE_MOON = 0.90, 0.97
MODES: tuple[Mode, ...] = ("dense", "keyword", "hybrid")
ROUNDS, QUICK_ROUNDS = 12, 4
QUESTIONS, QUICK_QUESTIONS = 60, 20


class Corpus(NamedTuple):
    """A store, and what is asked of it."""

    name: str
    data: Path
    store: str
    questions: Sequence[str]


class Asking(Embedders):
    """Embeds every question anew: remembered ones would make a leg look free."""

    def query(self, embedder: Embedder, text: str) -> Vectors:
        return np.asarray(embedder.query(text))


async def measure(corpora: Sequence[Corpus], rounds: int, say: Callable[[str], object]) -> Result:
    """One row of bars per corpus."""
    watch = Watch()
    try:
        embedder = open_embedder("all-minilm-l6-v2", MODELS)
    except EmbedderMissing as problem:
        raise NotMeasured(str(problem)) from None
    bars: list[Bar] = []
    checks: list[Check] = []
    arms: dict[str, dict[str, Interval]] = {}
    kept: dict[str, dict[str, list[list[float]]]] = {}
    shown: list[tuple[Interval, Interval]] = []
    noise = 0.0
    for corpus in corpora:
        searcher = Searcher(corpus.data, Asking(None, embedder))
        try:
            asked = _Asked(corpus, searcher, embedder)
            found = await interleave(asked.arms(), rounds, partial(_say, say, corpus.name))
            checks.append(asked.check())
        finally:
            searcher.close()
        slower = max("dense", "keyword", key=lambda leg: level(found, leg).value)
        bars += _bars(corpus, found, slower)
        arms |= {
            f"{corpus.name}, {name}": {"ms a question": level(found, name).scaled(1e3)} for name in found
        }
        kept[corpus.name] = {name: [list(pair) for pair in pairs] for name, pairs in found.items()}
        noise = max(noise, floor(found, "hybrid", slower))
        shown.append((ratio(found, "hybrid", slower), _share(found)))
    return Result(
        goal="hybrid",
        title="G12: both legs against the slower one, the keyword leg against bare tantivy",
        workload=(
            f"{', '.join(f'{one.name} ({len(one.questions)} questions)' for one in corpora)}; one question "
            f"at a time, default embedder; {rounds} rounds"
        ),
        bars=bars,
        ratio=bars[0].measured,
        noise_floor=noise,
        rounds=kept,
        arms=arms,
        checks=checks,
        machine=watch.describe(),
        plot=Plot(
            x="corpus",
            y="ratio",
            curves=[
                Curve(name="hybrid ÷ slower leg", x=list(range(len(shown))), y=[one[0] for one in shown]),
                Curve(name="keyword QPS ÷ tantivy", x=list(range(len(shown))), y=[one[1] for one in shown]),
            ],
            limit=LATENCY,
        ),
        notes=("A sample is the median over the questions, so a moment's load does not decide it.",),
    )


class _Asked:
    """The arms over one store."""

    def __init__(self, corpus: Corpus, searcher: Searcher, embedder: Embedder) -> None:
        self._corpus = corpus
        self._searcher = searcher
        self._vectors = {question: embedder.query(question) for question in corpus.questions}
        self._terms = {question: keywords.terms(question) for question in corpus.questions}
        catalogue = Catalogue(corpus.data)
        store = catalogue.store(corpus.store)
        folder = stores_folder(corpus.data, store.id)
        names = [segment.id for segment in catalogue.generation(store.id).segments]
        catalogue.close()
        self._ours = [keywords.TantivyKeywords(folder / name / keywords.FOLDER) for name in names]
        self._bare = [tantivy.Index.open(str(folder / name / keywords.FOLDER)) for name in names]
        self._searchers = [index.searcher() for index in self._bare]

    def arms(self) -> dict[str, Sample]:
        """Seconds a question; the names are those of the bars."""
        named: dict[str, Callable[[str], object]] = {mode: self._search(mode) for mode in MODES}
        named["hybrid, vector known"] = self._search("hybrid", known=True)
        named["dense, vector known"] = self._search("dense", known=True)
        named["keyword leg alone"] = self._leg
        named["bare tantivy"] = self._tantivy
        return {name: self._sample(ask) for name, ask in named.items()}

    def check(self) -> Check:
        """Whether both keyword arms do the same work: as many ids; of one segment, the same."""
        wrong = []
        for question in self._corpus.questions:
            ours, bare = self._leg(question), self._tantivy(question)
            same = set(ours) == set(bare) if len(self._ours) == 1 else len(ours) == len(bare)
            if not same:
                wrong.append(question)
        return Check(f"{self._corpus.name}: the keyword arms find the same", not wrong, "; ".join(wrong[:2]))

    def _search(self, mode: Mode, known: bool = False) -> Callable[[str], object]:
        stores = [self._corpus.store]

        def ask(question: str) -> object:
            vector = self._vectors[question] if known else None
            return self._searcher.search(question, stores, mode=mode, vector=vector)

        return ask

    def _leg(self, question: str) -> Sequence[int]:
        return keywords.match(self._ours, question, DEPTH)[0].ids

    def _tantivy(self, question: str) -> Sequence[int]:
        pairs: list[tuple[float, int]] = []
        for index, searcher, ours in zip(self._bare, self._searchers, self._ours, strict=True):
            clauses = [
                (tantivy.Occur.Should, tantivy.Query.term_query(index.schema, ours.field, term, "freq"))
                for term in self._terms[question]
            ]
            hits = searcher.search(tantivy.Query.boolean_query(clauses), DEPTH, count=False).hits
            ids = searcher.fast_field_values("id", [address for _, address in hits])
            pairs += [(-float(hit[0]), int(row or 0)) for hit, row in zip(hits, ids, strict=True)]
        pairs.sort()
        return [row for _, row in pairs[:DEPTH]]

    def _sample(self, ask: Callable[[str], object]) -> Sample:
        async def sample() -> float:
            spent = []
            for question in self._corpus.questions:
                began = time.perf_counter()
                ask(question)
                spent.append(time.perf_counter() - began)
            return float(np.median(spent))

        return sample


def _bars(corpus: Corpus, found: Rounds, slower: str) -> list[Bar]:
    known = ratio(found, "hybrid, vector known", "dense, vector known")
    return [
        Bar(
            name=f"{corpus.name}: hybrid latency ÷ slower leg ({slower})",
            measured=ratio(found, "hybrid", slower),
            must=LATENCY,
            moon=LATENCY_MOON,
            resolution=floor(found, "hybrid", slower),
        ),
        Bar(
            name=f"{corpus.name}: keyword QPS ÷ bare tantivy",
            measured=_share(found),
            sense="at least",
            must=SHARE,
            moon=SHARE_MOON,
            resolution=floor(found, "keyword leg alone", "bare tantivy"),
        ),
        Bar(name=f"{corpus.name}: hybrid ÷ dense, vectors known", measured=known),
    ]


def _say(say: Callable[[str], object], name: str, line: str) -> None:
    say(f"{name}: {line}")


def _share(found: Rounds) -> Interval:
    return ratio(found, "bare tantivy", "keyword leg alone")


@contextmanager
def _demo(most: int) -> Iterator[Corpus]:
    """The demo's abstracts in a store of their own, asked for by their titles."""
    with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as folder:
        pack, data = Path(folder, "pack"), Path(folder, "data")
        pack.mkdir()
        (pack / "corpus.jsonl").symlink_to(DEMO)
        fill(pack, "demo", data, open_embedder("all-minilm-l6-v2", MODELS))
        titles = [str(row["title"]) for row in islice(rows(DEMO), most)]
        yield Corpus("demo", data, "demo", titles)


@click.command()
@goal_options
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A data folder with stores of yours; else the demo's abstracts are ingested.",
)
@click.option("--store", "stores", multiple=True, metavar="NAME=QUESTIONS.jsonl", help="Repeatable.")
def command(quick: bool, out: Path, anyway: bool, data: Path | None, stores: tuple[str, ...]) -> None:
    """Hybrid latency over the slower leg, keyword throughput over tantivy (G12)."""
    rounds, most = (QUICK_ROUNDS, QUICK_QUESTIONS) if quick else (ROUNDS, QUESTIONS)
    if data is None:
        with _demo(most) as corpus:
            measured(lambda say: measure([corpus], rounds, say), out=out, anyway=anyway)
    named = [store.partition("=") for store in stores]
    if not named or not all(path and Path(path).is_file() for _, _, path in named):
        raise click.UsageError("--data needs --store NAME=QUESTIONS.jsonl, a file of objects with `text`")
    corpora = [
        Corpus(name, data, name, [str(row["text"]) for row in islice(rows(Path(path)), most)])
        for name, _, path in named
    ]
    try:
        measured(lambda say: measure(corpora, rounds, say), out=out, anyway=anyway)
    except UnknownStore as problem:
        raise click.UsageError(str(problem)) from None
