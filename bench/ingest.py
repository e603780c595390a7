"""G10: text to searchable, against the encoder alone.

    python -m bench.ingest --data PACK [--rows N]

Ingests the pack's corpus.jsonl into an empty store through the command's own pipeline, and, between
runs, times the bare encoder on the very same texts, tokenised before and sorted by length. Prints both
times and their ratios as one JSON object; 1.0 would mean that all but encoding is free. The ratio of
processor seconds (children included) holds on a machine that others use too; give it
OMP_NUM_THREADS=1 there, or threads that wait for each other count as work.
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import torch
from sentence_transformers import SentenceTransformer

from indexer.catalogue import Catalogue
from indexer.embedding import SentenceEmbedder
from indexer.ingest import ingest
from indexer.sandbox import Sandbox
from indexer.seams import Vectors
from indexer.splitting import Splitting

DEFAULT_MODEL = "~/.cache/fewshot/models/all-minilm-l6-v2"
BATCH = 32  # texts, as the indexer gives them to the model


class Cost(NamedTuple):
    """Seconds on the clock, and of processors in this process and its ended children."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> "Cost":
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(usage.ru_utime + usage.ru_stime for usage in used))

    def __sub__(self, earlier: "Cost") -> "Cost":
        return Cost(self.clock - earlier.clock, self.processor - earlier.processor)


class Recording(SentenceEmbedder):
    """The embedder, remembering what it was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.texts: list[str] = []

    def passages(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return super().passages(texts)


class Bare:
    """The model without anything around it."""

    def __init__(self, folder: Path) -> None:
        self._model = SentenceTransformer(str(folder), local_files_only=True)

    def cost(self, texts: Sequence[str]) -> Cost:
        """Of the texts, tokenised and sorted by length before the clock starts."""
        ordered = sorted(texts, key=len, reverse=True)
        batches = [self._model.preprocess(ordered[at : at + BATCH]) for at in range(0, len(ordered), BATCH)]
        before = Cost.now()
        with torch.inference_mode():
            for batch in batches:
                self._model(batch)["sentence_embedding"].numpy()
        return Cost.now() - before


class Silent:
    """A `Watch` that looks away."""

    def found(self, files: int) -> None: ...
    def embedded(self, chunks: int) -> None: ...
    def finished(self, name: str) -> None: ...
    def published(self, generation: int, documents: int, chunks: int) -> None: ...


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--model", default=Path("~/.cache/fewshot/models/all-minilm-l6-v2"), type=click.Path(path_type=Path)
)
@click.option("--rows", default=1000, show_default=True, help="Documents of the corpus to use.")
@click.option("--turns", default=3, show_default=True, help="Times each is measured, in turn; medians count.")
def main(data: Path, model: Path, rows: int, turns: int) -> None:
    """Print rates and ratio."""
    folder = model.expanduser()
    encoder = Bare(folder)
    embedder = Recording(folder)
    embedder.passages(["warm up"] * 64)
    whole, bare = [], []
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "corpus.jsonl")
        corpus.write_text("".join((data / "corpus.jsonl").open().readlines()[:rows]))
        for turn in range(turns):
            embedder.texts.clear()
            whole.append(searchable(corpus, Path(place, f"data{turn}"), embedder))
            bare.append(encoder.cost(embedder.texts))
    report = {
        "documents": rows,
        "chunks": len(embedder.texts),
        "searchable": {"clock": clock(whole), "processor": processor(whole)},
        "encode": {"clock": clock(bare), "processor": processor(bare)},
        "chunks_per_second": round(len(embedder.texts) / clock(whole), 1),
        "ratio": round(clock(bare) / clock(whole), 3),
        "processor_ratio": round(processor(bare) / processor(whole), 3),
    }
    print(json.dumps(report, indent=1))


def clock(costs: Sequence[Cost]) -> float:
    return round(statistics.median(cost.clock for cost in costs), 2)


def processor(costs: Sequence[Cost]) -> float:
    return round(statistics.median(cost.processor for cost in costs), 2)


def searchable(corpus: Path, data: Path, embedder: SentenceEmbedder) -> Cost:
    """Of the way from the file to the last publication."""
    catalogue, sandbox = Catalogue(data), Sandbox()
    sandbox(b"warm up", "a.txt")  # the fork server starts once per command, not per document
    before = Cost.now()
    try:
        ingest(catalogue, "bench", [corpus], embedder, sandbox, Splitting(), Silent())
    finally:
        sandbox.close()  # within the clock: an ended child's time can be read
        catalogue.close()
    return Cost.now() - before


if __name__ == "__main__":
    main()
