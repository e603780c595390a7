"""G4: what retrieval adds to the time to first token (workload W2), against its bare parts.

One request names a store of many passages. Within each, the client's time to first token less the time that
the decoder had the finished prompt is everything of ours: HTTP, admission, embedding, both legs of the
search, layout, tokenising, journal. Beside it, of other such questions: the embedder alone, the vector index
alone, the keyword index alone. Vectors of passages are random (bench/library.py).
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from bench.checks import below_its_core
from bench.client import Told, closed_loop, connected
from bench.command import goal_options, measured
from bench.host import Host, host
from bench.library import STORE, fill, questions
from bench.machine import Watch, on_gpu_machine
from bench.rag_requests import TOP, grounded
from bench.records import Bar, Check, Curve, Plot, Result
from bench.rounds import Interval, Sample, estimate, floor, how_many, interleave, level
from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.keywords import match
from indexer.seams import Embedder
from indexer.search import DEPTH
from indexer.snapshots import Snapshots
from indexer.vectors import StoredVectors, nearest
from indexer.vectors.card import Card, OnCard
from indexer.vectors.cuda import open_card
from server.settings import Settings, load_settings

TOKENS = 2  # out: the first is what counts
Mode = Literal["hybrid", "vector"]
MODES: tuple[Mode, ...] = ("hybrid", "vector")
PARTS = ("embed", "vectors", "keywords")  # bare
RATIO, RATIO_MOON = 1.25, 1.05
CARD_MS, CARD_MS_MOON, CARD_PASSAGES = 4.0, 1.5, 1_000_000
SHARE, SHARE_MOON, SHARE_PASSAGES = 0.01, 0.005, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    rounds: int
    requests: int  # a sample
    passages: int


QUICK = Effort(rounds=2, requests=2, passages=2_000)
FULL = Effort(rounds=6, requests=4, passages=SHARE_PASSAGES)


class Bare:
    """The parts of a search without anything around them, over the store's own segments."""

    def __init__(self, data: Path, embedder: Embedder, card: Card | None = None) -> None:
        """With a card, large segments are searched there, as the server does."""
        self._embedder, self._card = embedder, card
        self._catalogue = Catalogue(data)
        snapshot = Snapshots(self._catalogue, card).newest(self._catalogue.store(STORE))
        self._vectors = [segment.vectors for segment in snapshot.segments.values()]
        self._keywords = [segment.keywords for segment in snapshot.segments.values()]

    def describe(self) -> dict[str, object]:
        """Where the embedder is, and what the segments are searched by."""
        kinds = Counter(_searched_by(vectors) for vectors in self._vectors)
        return {"embedder": getattr(self._embedder, "device", "cpu"), "segments": dict(kinds)}

    def seconds(self, question: str) -> dict[str, float]:
        began = time.perf_counter()
        vector = self._embedder.query(question)
        embedded = time.perf_counter()
        nearest(self._vectors, vector, DEPTH)
        compared = time.perf_counter()
        match(self._keywords, question, DEPTH)
        ended = time.perf_counter()
        return dict(zip(PARTS, (embedded - began, compared - embedded, ended - compared), strict=True))

    def close(self) -> None:
        self._catalogue.close()
        if self._card is not None:
            self._card.close()


class Arms:
    """Ours in each mode, and the bare parts."""

    def __init__(self, host: Host, bare: Bare, effort: Effort) -> None:
        self._host = host
        self._bare = bare
        self._effort = effort
        self._asked = 0
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        self.ours: dict[str, list[float]] = {mode: [] for mode in MODES}  # seconds, a request each
        self.shares: dict[str, list[float]] = {mode: [] for mode in MODES}  # ÷ the decoder's time
        self.prompt_tokens: list[int] = []
        self.wrong: list[str] = []
        self.client_share = 0.0

    def samples(self) -> dict[str, Sample]:
        return {**{mode: partial(self._served, mode) for mode in MODES}, "bare parts": self._alone}

    def forget(self) -> None:
        """What the warm-up measured; its first search may have waited for the embedder."""
        self.wrong.clear()
        for kept in (*self.parts.values(), *self.ours.values(), *self.shares.values()):
            kept.clear()

    async def _alone(self) -> float:
        """Median seconds of the three parts together."""
        found = [self._bare.seconds(question) for question in self._questions()]
        for part in PARTS:
            self.parts[part].append(float(np.median([one[part] for one in found])))
        return float(np.median([sum(one.values()) for one in found]))

    async def _served(self, mode: Mode) -> float:
        """Median seconds of ours."""
        name = self._host.up.profile.name
        requests = [grounded(name, question, TOKENS, mode) for question in self._questions()]
        async with connected(self._host.up.port, 1) as connections:
            clock, own = time.monotonic(), time.process_time()
            told = await closed_loop(connections, requests)
            share = (time.process_time() - own) / (time.monotonic() - clock)
        self.client_share = max(self.client_share, share)
        engine = await self._host.engine_times()
        spent = []
        for answer in told:
            if problem := _problem(answer):
                self.wrong.append(problem)
                continue
            decoded = engine[answer.first_event()["id"]]
            spent.append(answer.ttft - decoded.ttft)
            self.shares[mode].append(spent[-1] / decoded.ttft)
            self.prompt_tokens.append(answer.usage()["prompt_tokens"])
        self.ours[mode] += spent
        return float(np.median(spent)) if spent else float("nan")

    def _questions(self) -> list[str]:
        """New ones: the server keeps the vector of a question it has met."""
        self._asked += 1
        return questions(self._effort.passages, self._effort.requests, seed=self._asked)


def _searched_by(vectors: StoredVectors) -> str:
    place = "card" if isinstance(vectors.shortcut, OnCard) else "cpu"
    return f"{vectors.about['kind']} {vectors.about['precision']} on the {place}"


def _problem(answer: Told) -> str:
    if not answer.ok:
        return answer.body[-200:].decode(errors="replace")
    found = len(answer.first_event()["fewshot"]["sources"])
    return "" if found == TOP else f"{found} sources instead of {TOP}"


async def measure_on(
    engine: Host, data: Path, embedder: Embedder, effort: Effort, say: Callable[[str], object]
) -> Result:
    """On an engine that is up, over `data` with the store in it."""
    watch = Watch()
    bare = Bare(data, embedder, open_card(engine.up.settings["retrieval"]["device"]))
    try:
        arms = Arms(engine, bare, effort)
        placed = bare.describe()
        say(f"rag_tax: warming up; {placed}")
        await interleave(arms.samples(), 1)
        arms.forget()
        rounds = await interleave(arms.samples(), effort.rounds, say)
    finally:
        bare.close()
    profile = engine.up.profile
    bars = [bar for mode in MODES for bar in _bars(arms, mode, effort)]
    return Result(
        goal="rag_tax",
        title="G4: what retrieval adds to the time to first token",
        workload=(
            f"W2: {effort.passages:,} passages, {TOP} of about 140 tokens found, 600 fixed ones, a question "
            f"of 30; prompts of {np.median(arms.prompt_tokens or [0]):.0f} tokens; {profile.name} "
            f"({profile.dtype}) on {profile.engine} {profile.engine_version}, {profile.device}; one request "
            f"at a time, {how_many(rounds)}; journal and metrics on, auth off"
        ),
        bars=bars,
        ratio=bars[0].measured,
        noise_floor=floor(rounds, "bare parts"),
        rounds=rounds,
        arms={
            **{
                f"ours, {mode}": {"ms": level(rounds, mode).scaled(1e3), **_spread(arms, mode)}
                for mode in MODES
            },
            "bare parts": {part: estimate(arms.parts[part]).scaled(1e3) for part in PARTS},
        },
        checks=[
            Check("every answer is whole and has its sources", not arms.wrong, "; ".join(arms.wrong[:2])),
            below_its_core(arms.client_share),
        ],
        machine={**watch.describe(), "engine": engine.up.settings["engine"], "search": placed},
        plot=Plot(
            x="round",
            y="ms",
            curves=[
                Curve(
                    name=name,
                    x=list(range(1, len(pairs) + 1)),
                    y=[Interval(1e3 * pair.mean, 1e3 * min(pair), 1e3 * max(pair)) for pair in pairs],
                )
                for name, pairs in rounds.items()
            ],
        ),
        notes=("The bare parts run one after the other; ours runs the keyword leg beside the embedding.",),
    )


def _bars(arms: Arms, mode: str, effort: Effort) -> list[Bar]:
    """The product's mode has the bars; the other one stands beside it."""
    judged = mode == MODES[0]
    on_gpu = on_gpu_machine()
    parts = PARTS if mode == "hybrid" else PARTS[:2]
    alone = [sum(one) for one in zip(*(arms.parts[part] for part in parts), strict=True)]
    spent = estimate(arms.ours[mode])
    ratio = estimate([one / float(np.median(alone)) for one in arms.ours[mode]])
    in_ms = judged and on_gpu and effort.passages >= CARD_PASSAGES
    in_share = judged and not on_gpu and effort.passages >= SHARE_PASSAGES
    return [
        Bar(
            name=f"{mode}: added before the engine ÷ ({' + '.join(parts)}, bare)",
            measured=ratio,
            must=RATIO if judged else None,
            moon=RATIO_MOON if judged else None,
        ),
        Bar(
            name=f"{mode}: added before the engine, median",
            measured=spent.scaled(1e3),
            unit="ms",
            must=CARD_MS if in_ms else None,
            moon=CARD_MS_MOON if in_ms else None,
        ),
        Bar(
            name=f"{mode}: that ÷ the engine's time to first token",
            measured=estimate(arms.shares[mode]),
            must=SHARE if in_share else None,
            moon=SHARE_MOON if in_share else None,
        ),
    ]


def _spread(arms: Arms, mode: str) -> dict[str, float]:
    found = arms.ours[mode]
    return {"p50": float(np.median(found) * 1e3), "p99": float(np.quantile(found, 0.99) * 1e3)}


def settings_for(data: Path, engine: dict[str, Any], embedder: str = "all-minilm-l6-v2") -> Settings:
    chosen = {
        "paths": {"data": str(data)},
        "server": {"port": 0},
        "engine": engine,
        "retrieval": {"embedder": embedder},
    }
    return load_settings(environ={}, overrides=chosen)


@click.command()
@goal_options
@click.option("--model", help="Model to decode with; the default one else.")
@click.option("--passages", type=click.IntRange(TOP), help="Of the store.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Keeps the store, or has it already."
)
def command(
    quick: bool, out: Path, anyway: bool, model: str | None, passages: int | None, data: Path | None
) -> None:
    """What retrieval adds to the TTFT, against embedding and searching alone (G4)."""
    chosen = QUICK if quick else FULL
    effort = Effort(rounds=chosen.rounds, requests=chosen.requests, passages=passages or chosen.passages)

    async def run(say: Callable[[str], object]) -> Result:
        paths = load_settings().paths
        embedder = open_embedder("all-minilm-l6-v2", paths.cache / "models")
        with tempfile.TemporaryDirectory(prefix="fewshot-bench-") as scratch:
            place = data or Path(scratch)
            fill(place, effort.passages, embedder, say)
            say("starting the engine")
            with host(settings_for(place, {"model": model} if model else {})) as engine:
                return await measure_on(engine, place, embedder, effort, say)

    measured(run, out=out, anyway=anyway)
