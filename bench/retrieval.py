"""Retrieval quality of each leg, of both, and of what refines them: nDCG@10 over judged packs.

    python -m bench.retrieval --data PACKS --stores FOLDER [--reranker FOLDER] a-scifact a-xquad/zh …

A pack is a folder with corpus.jsonl, dev/queries.jsonl and dev/qrels.tsv. Its corpus goes through
the real ingest into a store under `--stores`, where the next run finds it unchanged. A document
ranks where its best chunk does. `gain` is what hybrid has over the better leg; the bar is 0.02 on
average over the packs and no pack below -0.01.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import click

from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.ingest import ingest
from indexer.progress import Lines
from indexer.reranking import open_reranker
from indexer.sandbox import Sandbox
from indexer.seams import Embedder, Reranker
from indexer.search import PLAIN, Mode, Refinement, Searcher
from indexer.splitting import Splitting

CUT = 10
CHUNKS = 40  # enough chunks that ten documents are among them
DIVERSITY = 0.3  # share of unlikeness in the order: what is usual


class Way(NamedTuple):
    """A way of searching that has a column."""

    mode: Mode
    refine: Refinement = PLAIN


WAYS = {
    "dense": Way("dense"),
    "keyword": Way("keyword"),
    "hybrid": Way("hybrid"),
    "+mmr": Way("hybrid", Refinement(diversity=DIVERSITY)),
    "+rerank": Way("hybrid", Refinement(rerank=True)),
}


@click.command()
@click.argument("packs", nargs=-1, required=True)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--stores", required=True, type=click.Path(path_type=Path))
@click.option("--models", default=Path("~/.cache/fewshot/models"), type=click.Path(path_type=Path))
@click.option("--embedder", default="all-minilm-l6-v2")
@click.option("--reranker", type=click.Path(path_type=Path, exists=True), help="A cross-encoder's folder.")
@click.option("--most", default=0, help="Only so many questions of a pack; 0 is all.")
def main(
    packs: tuple[str, ...],
    data: Path,
    stores: Path,
    models: Path,
    embedder: str,
    reranker: Path | None,
    most: int,
) -> None:
    """Print a table of nDCG@10."""
    opened = open_embedder(embedder, models.expanduser())
    judge = open_reranker(reranker) if reranker is not None else None
    names = [name for name, way in WAYS.items() if judge is not None or not way.refine.rerank]
    print(f"{'pack':<14}{'questions':>10}" + "".join(f"{name:>9}" for name in [*names, "gain"]))
    gains: list[float] = []
    for pack in packs:
        store = pack.replace("/", "-")
        fill(data / pack, store, stores, opened)
        scores = measure(data / pack, store, stores, opened, most, judge)
        means = {name: mean(scores[name]) for name in names}
        gains.append(means["hybrid"] - max(means["dense"], means["keyword"]))
        print(
            f"{pack:<14}{len(scores['hybrid']):>10}"
            + "".join(f"{value:>9.4f}" for value in means.values())
            + f"{gains[-1]:>+9.4f}",
            flush=True,
        )
    print(f"gain: {mean(gains):+.4f} on average, {min(gains):+.4f} at least")


def fill(pack: Path, store: str, stores: Path, embedder: Embedder) -> None:
    """Ingest the pack's corpus, unless it is in the store already."""
    catalogue, sandbox = Catalogue(stores), Sandbox()
    try:
        with redirect_stdout(sys.stderr):  # the table stands alone
            summary = ingest(
                catalogue, store, [pack / "corpus.jsonl"], embedder, sandbox, Splitting(), Lines()
            )
    finally:
        sandbox.close()
        catalogue.close()
    for problem in summary.errors:
        print(f"{problem.name}: {problem.message}", file=sys.stderr)


def measure(
    pack: Path, store: str, stores: Path, embedder: Embedder, most: int = 0, reranker: Reranker | None = None
) -> dict[str, list[float]]:
    """nDCG@10 of every judged question, by way of searching; without a reranker not that of reranking."""
    relevant = judgements(pack / "dev" / "qrels.tsv")
    questions = [row for row in rows(pack / "dev" / "queries.jsonl") if row["id"] in relevant]
    scores: dict[str, list[float]] = {name: [] for name in WAYS}
    searcher = Searcher(stores, embedder, reranker)
    try:
        for row in questions[: most or None]:
            vector = embedder.query(row["text"])
            for name, (mode, refine) in WAYS.items():
                if refine.rerank and reranker is None:
                    continue
                hits = searcher.search(
                    row["text"], [store], top=CHUNKS, mode=mode, vector=vector, refine=refine
                )
                ranking = list(dict.fromkeys(str(hit.external_id) for hit in hits.hits))
                scores[name].append(ndcg(ranking, relevant[row["id"]]))
    finally:
        searcher.close()
    return scores


def ndcg(ranking: Sequence[str], gains: Mapping[str, float]) -> float:
    """Normalised discounted cumulative gain at 10, linear gains (Järvelin, Kekäläinen 2002)."""
    best = sum(gain / math.log2(at + 2) for at, gain in enumerate(sorted(gains.values(), reverse=True)[:CUT]))
    found = sum(gains.get(name, 0.0) / math.log2(at + 2) for at, name in enumerate(ranking[:CUT]))
    return found / best if best else 0.0


def judgements(path: Path) -> dict[str, dict[str, float]]:
    """question id -> document id -> gain, positive ones only."""
    found: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines()[1:]:
        question, document, gain = line.split("\t")
        if float(gain) > 0:
            found.setdefault(question, {})[document] = float(gain)
    return found


def rows(path: Path) -> Iterable[dict[str, Any]]:
    """The objects of a JSONL file."""
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


if __name__ == "__main__":
    main()
