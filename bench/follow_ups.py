"""What a follow-up question is best searched as: itself, with turns before it, or rewritten by the model.

    python -m bench follow_ups --data PACKS --stores FOLDER [--most 60] [--no-model]

The pack b-mtrag-un holds conversations that people had with a system over documents. Of each that goes on and
whose passages are known, the last question is searched for among the passages of all of them (hybrid, the
default embedder). Printed for every way: nDCG@10 and recall at 5 and 10, and the difference of nDCG@10 from
the question as asked, paired, with the 95 % interval of a bootstrap.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from bench.retrieval import mean, ndcg, rows
from indexer.catalogue import Catalogue
from indexer.embedding import open_embedder
from indexer.ingest import ingest
from indexer.progress import Lines
from indexer.sandbox import Sandbox
from indexer.search import Searcher
from indexer.splitting import Splitting
from prompts.records import Message, Role
from server.metrics import Metrics
from server.rewriting import TEMPLATE, Rewriter, joined
from server.settings import Settings, load_settings
from server.wiring import open_parts

PACK = "b-mtrag-un"
CHUNKS = 40  # enough chunks that ten passages are among them
AT_ONCE = 4
SECONDS = 300.0  # a busy machine must not look like a bad rewriter
DRAWS = 2_000


class FollowUp(NamedTuple):
    """The last question of a conversation, and the passages that answer it."""

    id: str
    question: str
    history: tuple[Message, ...]
    relevant: Mapping[str, float]
    kind: str  # the source's word for how it leans on the conversation


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--stores", required=True, type=click.Path(path_type=Path))
@click.option("--most", default=0, help="Only so many questions, evenly spread; 0 is all.")
@click.option("--no-model", is_flag=True, help="Without the ways that need the model.")
@click.option("--model", help="Another model than the settings'.")
@click.option("--show", is_flag=True, help="Print what was searched for.")
def main(data: Path, stores: Path, most: int, no_model: bool, model: str | None, show: bool) -> None:
    """Print a table."""
    engine: dict[str, Any] = {"model": model} if model else {}
    settings = load_settings(environ={}, overrides={"paths": {"data": str(stores)}, "engine": engine})
    told = list(rows(data / PACK / "dev" / "tasks.jsonl"))
    _fill(told, stores, settings)
    asked = [one for row in told if (one := _follow_up(row)) is not None]
    if most:
        asked = [asked[at * len(asked) // most] for at in range(min(most, len(asked)))]
    queries = {name: [way(one) for one in asked] for name, way in WAYS.items()}
    if not no_model:
        queries["rewritten"] = asyncio.run(_rewritten(asked, settings))
    _print(asked, _measured(asked, queries, stores, settings))
    if show:
        for at, one in enumerate(asked):
            print(json.dumps({"asked": one.question} | {name: said[at] for name, said in queries.items()}))


WAYS: Mapping[str, Callable[[FollowUp], str]] = {
    "as asked": lambda one: one.question,
    "last 2 turns": lambda one: joined(one.question, one.history, 2),
    "last 3 turns": lambda one: joined(one.question, one.history, 3),
    "all turns": lambda one: joined(one.question, one.history, 99),
    "2, question twice": lambda one: f"{joined(one.question, one.history, 2)}\n{one.question}",
}


def _follow_up(row: Mapping[str, Any]) -> FollowUp | None:
    """None: nothing came before, or no passage is known to answer."""
    *before, last = row["turns"]
    if not before or not row["contexts"]:
        return None
    speakers: dict[str, Role] = {"user": "user", "agent": "assistant"}
    return FollowUp(
        row["id"],
        last["text"],
        tuple(Message(speakers[turn["speaker"]], turn["text"]) for turn in before),
        {context["document_id"]: 1.0 for context in row["contexts"]},
        ", ".join(row["Multi-Turn"]) if isinstance(row["Multi-Turn"], list) else str(row["Multi-Turn"]),
    )


def _fill(told: Sequence[Mapping[str, Any]], stores: Path, settings: Settings) -> None:
    """All passages of all conversations in one store, unless they are there already."""
    stores.mkdir(parents=True, exist_ok=True)
    passages = {
        context["document_id"]: {
            "id": context["document_id"],
            "title": context.get("title") or "",
            "text": context["text"],
        }
        for row in told
        for context in row["contexts"]
    }
    file = stores / f"{PACK}.jsonl"
    file.write_text("\n".join(json.dumps(passage) for passage in passages.values()))
    embedder = open_embedder(settings.retrieval.embedder, settings.paths.cache / "models")
    catalogue, sandbox = Catalogue(stores), Sandbox()
    try:
        with redirect_stdout(sys.stderr):  # the table stands alone
            ingest(catalogue, PACK, [file], embedder, sandbox, Splitting(), Lines())
    finally:
        sandbox.close()
        catalogue.close()


async def _rewritten(asked: Sequence[FollowUp], settings: Settings) -> list[str]:
    """As the server would search for them, by its own model and template."""
    async with open_parts(settings, Metrics()) as opened:
        parts = opened.parts
        await parts.engine.up.wait()
        if parts.engine.failure is not None:
            raise click.ClickException(f"the engine did not start: {parts.engine.failure}")
        rewriter = Rewriter(parts.engine.decoder, parts.library.get(TEMPLATE), SECONDS)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(at: int, follow_up: FollowUp) -> tuple[str, bool]:
            async with gate:
                query = await rewriter.query("model", follow_up.question, follow_up.history, f"bench-{at}")
                return query.text, query.rewrite == "failed"

        began = time.monotonic()
        found = await asyncio.gather(*(one(at, follow_up) for at, follow_up in enumerate(asked)))
        seconds = (time.monotonic() - began) * AT_ONCE / len(asked)
        failed = sum(fell for _, fell in found)
        print(f"{failed} of {len(asked)} rewrites fell back; {seconds:.1f} s each", file=sys.stderr)
        return [text for text, _ in found]


def _measured(
    asked: Sequence[FollowUp], queries: Mapping[str, Sequence[str]], stores: Path, settings: Settings
) -> dict[str, list[list[str]]]:
    """The passages found by each way for each question, best first."""
    embedder = open_embedder(settings.retrieval.embedder, settings.paths.cache / "models")
    searcher = Searcher(stores, embedder)
    try:
        return {
            name: [
                list(
                    dict.fromkeys(
                        str(hit.external_id) for hit in searcher.search(text, [PACK], top=CHUNKS).hits
                    )
                )
                for text in texts
            ]
            for name, texts in queries.items()
        }
    finally:
        searcher.close()


def _print(asked: Sequence[FollowUp], rankings: Mapping[str, Sequence[Sequence[str]]]) -> None:
    print(f"{len(asked)} follow-up questions")
    print(f"{'searched as':<20}{'nDCG@10':>9}{'recall@5':>10}{'recall@10':>11}   against as asked")
    scores = {
        name: [ndcg(ranking, one.relevant) for one, ranking in zip(asked, found, strict=True)]
        for name, found in rankings.items()
    }
    plain = np.array(scores["as asked"])
    draws = np.random.default_rng(0).integers(0, len(asked), (DRAWS, len(asked)))
    for name, found in rankings.items():
        recalls = [
            mean([recall(ranking, one.relevant, at) for one, ranking in zip(asked, found, strict=True)])
            for at in (5, 10)
        ]
        gains = np.array(scores[name]) - plain
        low, high = np.quantile(gains[draws].mean(axis=1), (0.025, 0.975))
        print(
            f"{name:<20}{mean(scores[name]):>9.4f}{recalls[0]:>10.4f}{recalls[1]:>11.4f}"
            + (f"   {gains.mean():+.4f} ({low:+.4f} … {high:+.4f})" if name != "as asked" else "")
        )
    kinds = sorted({one.kind for one in asked})
    for kind in kinds:
        own = [at for at, one in enumerate(asked) if one.kind == kind]
        means = ", ".join(f"{name} {mean([said[at] for at in own]):.4f}" for name, said in scores.items())
        print(f"{kind} ({len(own)}): {means}")


def recall(ranking: Sequence[str], relevant: Mapping[str, float], at: int) -> float:
    """Share of the relevant passages among the first `at`."""
    return len(set(ranking[:at]) & set(relevant)) / len(relevant)


if __name__ == "__main__":
    main()
