"""Retrieval quality of each leg and of both: nDCG@10 over packs of questions with judged documents.

    python -m bench.retrieval --data PACKS --stores FOLDER a-scifact a-xquad/zh …

A pack is a folder with corpus.jsonl, dev/queries.jsonl and dev/qrels.tsv. Its corpus goes through
the real ingest into a store under `--stores`, where the next run finds it unchanged. A document
ranks where its best chunk does.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.ingest import ingest
from indexer.progress import Lines
from indexer.sandbox import Sandbox
from indexer.seams import Embedder
from indexer.search import Mode, Searcher
from indexer.splitting import Splitting

MODES: tuple[Mode, ...] = ("dense", "keyword", "hybrid")
CUT = 10
CHUNKS = 40  # enough chunks that ten documents are among them


@click.command()
@click.argument("packs", nargs=-1, required=True)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--stores", required=True, type=click.Path(path_type=Path))
@click.option("--models", default=Path("~/.cache/fewshot/models"), type=click.Path(path_type=Path))
@click.option("--embedder", default="all-minilm-l6-v2")
@click.option("--most", default=0, help="Only so many questions of a pack; 0 is all.")
def main(packs: tuple[str, ...], data: Path, stores: Path, models: Path, embedder: str, most: int) -> None:
    """Print a table of nDCG@10."""
    opened = open_embedder(embedder, models.expanduser())
    print(f"{'pack':<14}{'questions':>10}" + "".join(f"{mode:>9}" for mode in MODES))
    for pack in packs:
        store = pack.replace("/", "-")
        fill(data / pack, store, stores, opened)
        scores = measure(data / pack, store, stores, opened, most)
        print(
            f"{pack:<14}{len(scores['hybrid']):>10}"
            + "".join(f"{mean(scores[mode]):>9.4f}" for mode in MODES),
            flush=True,
        )


def fill(pack: Path, store: str, stores: Path, embedder: Embedder) -> None:
    """Ingest the pack's corpus, unless it is in the store already."""
    catalogue, sandbox = Catalogue(stores), Sandbox()
    try:
        summary = ingest(catalogue, store, [pack / "corpus.jsonl"], embedder, sandbox, Splitting(), Lines())
    finally:
        sandbox.close()
        catalogue.close()
    for problem in summary.errors:
        print(f"{problem.name}: {problem.message}", file=sys.stderr)


def measure(
    pack: Path, store: str, stores: Path, embedder: Embedder, most: int = 0
) -> dict[Mode, list[float]]:
    """nDCG@10 of every judged question, by mode."""
    relevant = judgements(pack / "dev" / "qrels.tsv")
    questions = [row for row in rows(pack / "dev" / "queries.jsonl") if row["id"] in relevant]
    scores: dict[Mode, list[float]] = {mode: [] for mode in MODES}
    searcher = Searcher(stores, embedder)
    try:
        for row in questions[: most or None]:
            vector = embedder.query(row["text"])
            for mode in MODES:
                hits = searcher.search(row["text"], [store], top=CHUNKS, mode=mode, vector=vector)
                ranking = list(dict.fromkeys(str(hit.external_id) for hit in hits.hits))
                scores[mode].append(ndcg(ranking, relevant[row["id"]]))
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
