"""G10: text to searchable, against the encoder alone.

    python -m bench.ingest --data PACK [--rows N] [--int8]

Ingests the pack's corpus.jsonl into an empty store through the command's own pipeline, and, between
runs, times the bare encoder on the very same texts, tokenised before and sorted by length. Prints both
times and their ratios as one JSON object; 1.0 means that the way costs no more than encoding by the
model's own modules (ours costs a little less than that, see indexer/lean_bert.py). Beside it stand the
library's own `encode` of the raw texts, with its defaults, and, with `--int8`, the way to searchable with the
quantised model; and where the time of each stage goes. The ratio of
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
from typing import Any, NamedTuple

import click
import torch
from sentence_transformers import SentenceTransformer

from indexer.backlog import Quiet
from indexer.batches import batched
from indexer.catalogue import Catalogue
from indexer.embedding import SentenceEmbedder, open_embedder
from indexer.ingest import ingest
from indexer.records import Chunk, Document, Reading
from indexer.sandbox import Sandbox
from indexer.seams import Embedder, Reader, Splitter, Vectors
from indexer.sentence_models import CPU_TOKENS, MOST_THREADS
from indexer.splitting import Splitting

DEFAULT_MODEL = "~/.cache/fewshot/models/all-minilm-l6-v2"


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


class Recording:
    """An embedder that remembers what it was given, and for how long it was asked."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.digest = embedder.name, embedder.digest
        self.dimension, self.max_tokens = embedder.dimension, embedder.max_tokens
        self.count, self.grasp, self.query = embedder.count, embedder.grasp, embedder.query
        self.texts: list[str] = []

    def passages(self, texts: Sequence[str]) -> Vectors:
        self.texts += texts
        return self._embedder.passages(texts)


class Stages:
    """Seconds on the clock in reading and in splitting, which go on beside the embedding."""

    def __init__(self, read: Reader, split: Splitter) -> None:
        self._read, self._split = read, split
        self.reading = self.splitting = 0.0

    def read(self, data: bytes, name: str, first_line: int = 1) -> Reading:
        began = time.perf_counter()
        try:
            return self._read(data, name, first_line)
        finally:
            self.reading += time.perf_counter() - began

    def split(self, document: Document, embedder: Embedder) -> tuple[Chunk, ...]:
        began = time.perf_counter()
        chunks = self._split(document, embedder)
        self.splitting += time.perf_counter() - began
        return chunks


class Bare:
    """The model without anything around it."""

    def __init__(self, folder: Path) -> None:
        self._model = SentenceTransformer(str(folder), local_files_only=True)

    def cost(self, texts: Sequence[str]) -> Cost:
        """Of the texts, tokenised, sorted and cut into the indexer's own batches before the clock starts."""
        prepared = [self._model.preprocess([text]) for text in texts]
        lengths = [int(features["input_ids"].shape[1]) for features in prepared]
        budget = CPU_TOKENS * min(torch.get_num_threads(), MOST_THREADS)
        batches = [self._model.preprocess([texts[at] for at in some]) for some in batched(lengths, budget)]
        before = Cost.now()
        with torch.inference_mode():
            for batch in batches:
                self._model(batch)["sentence_embedding"].numpy()
        return Cost.now() - before

    def default(self, texts: Sequence[str]) -> Cost:
        """Of the library's `encode` as its documentation calls it, from the raw texts."""
        before = Cost.now()
        self._model.encode(list(texts), show_progress_bar=False)
        return Cost.now() - before


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--model", default=Path("~/.cache/fewshot/models/all-minilm-l6-v2"), type=click.Path(path_type=Path)
)
@click.option("--rows", default=1000, show_default=True, help="Documents of the corpus to use.")
@click.option("--turns", default=3, show_default=True, help="Times each is measured, in turn; medians count.")
@click.option("--int8", "quantised", is_flag=True, help="Measure the quantised model too (extra onnx).")
def main(data: Path, model: Path, rows: int, turns: int, quantised: bool) -> None:
    """Print rates and ratio."""
    folder = model.expanduser()
    encoder = Bare(folder)
    embedder = Recording(SentenceEmbedder(folder))
    quick = open_embedder(f"{folder.name}:int8", folder.parent) if quantised else None
    for warm in (embedder, quick) if quick else (embedder,):
        warm.passages(["warm up"] * 64)
    whole, bare, default, eighth = [], [], [], []
    stages: list[Stages] = []
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "corpus.jsonl")
        corpus.write_text("".join((data / "corpus.jsonl").open().readlines()[:rows]))
        for turn in range(turns):
            embedder.texts.clear()
            cost, stage = searchable(corpus, Path(place, f"data{turn}"), embedder)
            whole.append(cost)
            stages.append(stage)
            bare.append(encoder.cost(embedder.texts))
            default.append(encoder.default(embedder.texts))
            if quick is not None:
                eighth.append(searchable(corpus, Path(place, f"int8-{turn}"), quick)[0])
    report: dict[str, Any] = {
        "documents": rows,
        "chunks": len(embedder.texts),
        "searchable": {"clock": clock(whole), "processor": processor(whole)},
        "encode": {"clock": clock(bare), "processor": processor(bare)},
        "default_encode": {"clock": clock(default), "processor": processor(default)},
        "stages": {
            "read": round(statistics.median(stage.reading for stage in stages), 2),
            "split": round(statistics.median(stage.splitting for stage in stages), 2),
        },
        "chunks_per_second": round(len(embedder.texts) / clock(whole), 1),
        "ratio": round(clock(bare) / clock(whole), 3),
        "processor_ratio": round(processor(bare) / processor(whole), 3),
        "default_ratio": round(clock(default) / clock(whole), 3),
        "default_processor_ratio": round(processor(default) / processor(whole), 3),
    }
    if eighth:
        report["int8"] = {"clock": clock(eighth), "processor": processor(eighth)}
        report["int8_default_ratio"] = round(clock(default) / clock(eighth), 3)
        report["int8_default_processor_ratio"] = round(processor(default) / processor(eighth), 3)
    print(json.dumps(report, indent=1))


def clock(costs: Sequence[Cost]) -> float:
    return round(statistics.median(cost.clock for cost in costs), 2)


def processor(costs: Sequence[Cost]) -> float:
    return round(statistics.median(cost.processor for cost in costs), 2)


def searchable(corpus: Path, data: Path, embedder: Embedder) -> tuple[Cost, Stages]:
    """Of the way from the file to the last publication."""
    catalogue, sandbox = Catalogue(data), Sandbox()
    stages = Stages(sandbox, Splitting())
    sandbox(b"warm up", "a.txt")  # the fork server starts once per command, not per document
    before = Cost.now()
    try:
        ingest(catalogue, "bench", [corpus], embedder, stages.read, stages.split, Quiet())
    finally:
        sandbox.close()  # within the clock: an ended child's time can be read
        catalogue.close()
    return Cost.now() - before, stages


if __name__ == "__main__":
    main()
