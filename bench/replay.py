"""Recorded answers of the real model, replayed alone: how many come back letter by letter, and why not.

    python -m bench replay --data PACKS --answers 200

The answers are recorded as traffic makes them: several at once, half of them greedy, half drawn with a seed,
as chats, raw completions, answers of several choices and answers over retrieved sources, each through the
server's own pipeline into a journal. Then each is replayed from that journal with nobody beside it. For every
difference the token where the answers part is scored again, and the replay is made twice more: an engine that
repeats itself alone, and parts from the recording where two tokens nearly tie, has rounded otherwise among
others.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import click

from bench.retrieval import fill, rows
from indexer.hash_embedder import HashEmbedder
from prompts.records import Message
from server.app import Opened
from server.ids import new_id
from server.metrics import Metrics
from server.pipeline import Parts, answer, prepare
from server.records import Sampling, Search, Turn, Wishes
from server.replaying import Replay, find_record, remains_of, replay
from server.settings import load_settings
from server.wiring import open_parts

IDENTICAL = 0.99
TENANT = "bench"
PACK = "a-clapnq"
AT_ONCE = 8
DRAWN = Sampling(temperature=0.8, top_p=0.95)
GREEDY = Sampling(temperature=0.0)
KINDS = ("chat", "raw", "choices", "grounded")


@dataclass(slots=True)
class Counts:
    """What became of the answers."""

    kinds: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    tokens: int = 0
    differences: list[str] = field(default_factory=list)


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path, exists=True), envvar="FEWSHOT_TEST_DATA"
)
@click.option("--answers", default=200, show_default=True)
@click.option("--tokens", default=48, show_default=True, help="Longest answer.")
@click.option("--minutes", default=0.0, help="End then, with what was replayed so far; 0: when done.")
@click.option("--echo", is_flag=True, help="Without a model: a look at the program, no evidence.")
def main(data: Path, answers: int, tokens: int, minutes: float, echo: bool) -> None:
    """Print the share and every difference; exit 1 when too few are identical, or one is unexplained."""
    with tempfile.TemporaryDirectory(prefix="fewshot-replay-") as folder:
        fill(data / PACK, PACK, Path(folder), HashEmbedder())
        turns = list(islice(_turns(data / PACK, tokens), answers))
        until = time.monotonic() + minutes * 60 if minutes else float("inf")
        counts = asyncio.run(_measure(turns, Path(folder), until, "echo" if echo else "vllm"))
    done = sum(counts.kinds.values())
    share = counts.identical / done if done else 0.0
    for line in counts.differences:
        print(line)
    print(json.dumps({"answers": done, **counts.kinds, "tokens": counts.tokens}))
    print(f"{share:.4f} of {done} answers identical when replayed alone; must {IDENTICAL}")
    unexplained = sum(line.startswith("unexplained") for line in counts.differences)
    raise SystemExit(1 if share < IDENTICAL or unexplained or done < len(turns) else 0)


def _turns(pack: Path, tokens: int) -> Iterator[Turn]:
    """Questions of the pack, asked in every way, with both kinds of sampling."""
    ways = cycle((kind, sampling) for sampling in (GREEDY, DRAWN) for kind in KINDS)
    for row, (kind, sampling) in zip(cycle(rows(pack / "dev" / "queries.jsonl")), ways, strict=False):
        question = row["text"]
        raw = kind == "raw"
        yield Turn(
            id=new_id("cmpl-" if raw else "chatcmpl-"),
            created=0,
            tenant=TENANT,
            model="",  # named when the engine is up
            metadata={"kind": kind},
            messages=() if raw else (Message("user", question),),
            prompts=(f"Question: {question}\nAnswer:",) if raw else (),
            n=2 if kind == "choices" else 1,
            max_tokens=tokens,
            sampling=sampling,
            search=Search(stores=(PACK,), top=2) if kind == "grounded" else Search(),
            wishes=Wishes(when_empty="answer"),
        )


async def _measure(turns: Sequence[Turn], stores: Path, until: float, engine: str) -> Counts:
    settings = load_settings(
        environ={},
        overrides={
            "paths": {"data": str(stores)},
            "engine": {"kind": engine},
            "retrieval": {"embedder": "hash", "timeout_seconds": 600},
            "server": {"deadline_seconds": 3600, "running": AT_ONCE},
        },
    )
    counts = Counts()
    async with open_parts(settings, Metrics()) as opened:
        parts = opened.parts
        await parts.engine.up.wait()
        print(parts.engine.failure or "the engine is up", file=sys.stderr)
        async for number in _recorded(turns, parts):
            print(f"{number} recorded", file=sys.stderr, flush=True)
        for turn in turns:
            if time.monotonic() > until:
                break
            await _replayed(turn, opened, counts)
            if sum(counts.kinds.values()) % 10 == 0:
                print(f"{counts.identical} of {sum(counts.kinds.values())}", file=sys.stderr, flush=True)
    return counts


async def _recorded(turns: Sequence[Turn], parts: Parts) -> AsyncIterator[int]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(turn: Turn) -> None:
        async with gate:
            turn = replace(turn, model=parts.engine.decoder.profile.name)
            ticket = await parts.admission.enter(weight=turn.n)
            answering = answer(await prepare(turn, ticket, parts), ticket, parts)
            async with aclosing(answering.pieces()) as pieces:
                async for _ in pieces:
                    pass

    for number, done in enumerate(asyncio.as_completed([one(turn) for turn in turns]), 1):
        await done
        if number % 20 == 0:
            yield number


async def _replayed(turn: Turn, opened: Opened, counts: Counts) -> None:
    done = await _once(turn, opened)
    kind = f"{turn.metadata['kind']}, {'greedy' if turn.sampling.temperature == 0 else 'drawn'}"
    counts.kinds[kind] += 1
    counts.tokens += sum(len(said.tokens) for said in done.record.choices or ())
    if done.identical:
        counts.identical += 1
        return
    again = [await _once(turn, opened) for _ in range(2)]
    counts.differences.append(explained(kind, done, again))


async def _once(turn: Turn, opened: Opened) -> Replay:
    parts = opened.parts
    record = await find_record(turn.id, TENANT, parts)
    ticket = await parts.admission.enter(weight=turn.n)
    try:
        return await replay(record, await remains_of(record, parts, opened.corpora), ticket, parts)
    finally:
        ticket.leave()


def explained(kind: str, done: Replay, again: Sequence[Replay]) -> str:
    """One line about a difference, which begins with `unexplained` where the known reasons do not reach.

    Rounding explains it when the engine alone says the same every time, others were at work beside the
    recording, and, for a greedy answer, the two tokens tie up to rounding.
    """
    record, apart, odds = done.record, done.difference, done.log_probabilities
    repeats = all(other.replayed == done.replayed for other in again)
    crowded = record.others > 0 or record.cached_tokens > 0
    tied = record.limits.temperature > 0 or any(reason.code == "tie" for reason in done.reasons)
    verdict = "rounding" if repeats and crowded and tied else "unexplained"
    said = {
        "id": record.id,
        "kind": kind,
        "at": apart and {"choice": apart.choice, "token": apart.token_index, "text": apart.text_index},
        "tokens": apart and [apart.original, apart.replayed],
        "log_probabilities": odds,
        "others_at_work": record.others,
        "cached_tokens": record.cached_tokens,
        "alone_it_repeats_itself": repeats,
        "reasons": [reason.code for reason in done.reasons],
    }
    return f"{verdict}: {json.dumps(said)}"


if __name__ == "__main__":
    main()
