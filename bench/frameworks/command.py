"""G14: what a request costs around the call of the engine, in Fewshot and in three frameworks.

One engine for all: our server with the echo, which answers at once. It is called bare, with the sources
already in the messages, by a client that does nothing else: that is the LLM's share. A framework's arm is a
process in an environment of its own, which searches the same chunks by the same vectors, fills the same
template and calls the same engine. Ours is one request that names the store. What is beyond the bare call is
overhead.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from bench.command import goal_options, measured
from bench.frameworks.asking import Arms, Direct, Framework
from bench.frameworks.environments import HERE, python_of
from bench.machine import Watch
from bench.records import Bar, Check, Curve, Plot, Result
from bench.retrieval import fill, rows
from bench.rounds import Interval, Pair, Rounds, estimate, floor, interleave, level
from bench.servers import Served, fewshot_server
from indexer import schema
from indexer.catalogue import Catalogue
from indexer.hash_embedder import HashEmbedder
from indexer.snapshots import Snapshots, vectors_of

FRAMEWORKS = ("langchain", "llama_index", "haystack")
DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "abstracts.jsonl"
STORE = "demo"
K = 5
TOKENS = 16
REPLY = "A short answer. "
SHARE, SHARE_MOON = 0.25, 0.10
SYSTEM = "Answer the question from the numbered sources."
ROUNDS, QUICK_ROUNDS = 9, 3
QUESTIONS, QUICK_QUESTIONS = 100, 30


@contextmanager
def served(data: Path) -> Iterator[Served]:
    settings = {
        "FEWSHOT_DATA_DIR": str(data),
        "FEWSHOT_EMBEDDER": "hash",
        "FEWSHOT_ENGINE_ECHO_REPLY": REPLY,
    }
    with fewshot_server(settings, "--echo") as (pid, port):
        yield Served(pid, port, "echo")


def chunks_of(data: Path) -> list[dict[str, Any]]:
    """Every chunk of the store with its vector as it is stored there."""
    catalogue = Catalogue(data)
    try:
        snapshot = Snapshots(catalogue).newest(catalogue.store(STORE))
        with catalogue.engine.connect() as connection:
            query = sa.select(schema.chunks.c.id, schema.chunks.c.key, schema.chunks.c.text)
            found = connection.execute(query.order_by(schema.chunks.c.id)).all()
    finally:
        catalogue.close()
    vectors = vectors_of([snapshot], [row.id for row in found])
    return [
        {"id": row.key, "text": row.text, "vector": vector.tolist()}
        for row, vector in zip(found, vectors, strict=True)
    ]


def plain(model: str, question: str, texts: Sequence[str]) -> bytes:
    """The call that is left when somebody else has searched and filled the template."""
    sources = "\n\n".join(f"[{at}] {text}" for at, text in enumerate(texts, start=1))
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Sources:\n{sources}\n\nQuestion: {question}"},
    ]
    return json.dumps({**_limits(model), "messages": messages}).encode()


def grounded(model: str, question: str) -> bytes:
    """The same as one request of ours: it names the store, and is searched and laid out by the server."""
    search = {
        "type": "file_search",
        "vector_store_ids": [STORE],
        "max_num_results": K,
        "search_mode": "vector",
    }
    messages = [{"role": "user", "content": question}]
    return json.dumps({**_limits(model), "messages": messages, "tools": [search]}).encode()


def _limits(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": TOKENS, "temperature": 0}


async def measure(
    names: Sequence[str], count: int, rounds: int, say: Any, place: Path | None = None
) -> Result:
    """Ours and the named frameworks, over `count` questions. Raises NotMeasured."""
    watch = Watch()
    pythons = {}
    for name in names:
        say(f"{name}: environment")
        pythons[name] = python_of(name) if place is None else python_of(name, place)
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fewshot-bench-")))
        (data / "pack").mkdir()
        (data / "pack" / "corpus.jsonl").symlink_to(DEMO)
        fill(data / "pack", STORE, data, HashEmbedder())
        chunks = chunks_of(data)
        texts = {chunk["id"]: chunk["text"] for chunk in chunks}
        questions = [str(row["title"]) for row in islice(rows(DEMO), count)]
        server = stack.enter_context(served(data))
        arms = Arms(server.pid)
        ours = Direct(server.port, [grounded(server.model, question) for question in questions])
        stack.callback(ours.close)
        expected = [list(ids) for _, ids in ours.ask().told]
        bodies = [
            plain(server.model, question, [texts[one] for one in ids])
            for question, ids in zip(questions, expected, strict=True)
        ]
        bare = Direct(server.port, bodies)
        stack.callback(bare.close)
        job = {
            "url": f"http://127.0.0.1:{server.port}/v1",
            "model": server.model,
            "k": K,
            "tokens": TOKENS,
            "chunks": chunks,
            "questions": [{"text": one, "vector": HashEmbedder().query(one).tolist()} for one in questions],
        }
        asking: dict[str, Framework | Direct] = {"bare call": bare, "Fewshot": ours}
        for name in names:
            say(f"{name}: starting")
            asking[name] = Framework(name, pythons[name], job)
            stack.callback(asking[name].close)
        samples = {name: arms.sample(name, arm) for name, arm in asking.items()}
        for sample in samples.values():
            await sample()  # warm
        clock = await interleave(samples, rounds, say)
    processor = arms.rounds()
    wrong = [name for name in ("Fewshot", *names) if [list(ids) for _, ids in arms.told[name]] != expected]
    odd = [name for name in asking if {text for text, _ in arms.told[name]} != {REPLY}]
    best = min(names, key=lambda name: overhead(clock, name).value)
    bars = [
        Bar(
            name=f"non-LLM time of a request ÷ the best framework's ({best})",
            measured=share(clock, best),
            must=SHARE,
            moon=SHARE_MOON,
        ),
        Bar(
            name=f"processor time beyond the bare call ÷ {best}'s",
            measured=share(processor, best),
        ),
    ]
    points = ["Fewshot", *names]
    return Result(
        goal="frameworks",
        title="G14: what a request costs around the engine, against the frameworks",
        workload=(
            f"{len(questions)} questions on {len(chunks)} chunks, {K} by vector, {TOKENS} tokens from the "
            f"null engine, one request at a time, not streamed; {rounds} rounds"
        ),
        bars=bars,
        ratio=bars[0].measured,
        noise_floor=floor(clock, "Fewshot", best),
        rounds={"ms on the clock": clock, "ms of processors": processor},
        arms={
            name: {
                "ms a question": level(clock, name),
                "ms beyond the bare call": overhead(clock, name),
                "processor ms a question": level(processor, name),
                "config": _pins(name),
            }
            for name in asking
        },
        checks=[
            Check("every arm finds the same chunks in the same order", not wrong, ", ".join(wrong)),
            Check("every answer is the engine's", not odd, ", ".join(odd)),
        ],
        machine=watch.describe(),
        plot=Plot(
            x=f"arm ({', '.join(points)})",
            y="ms beyond the bare call",
            curves=[
                Curve(
                    name="on the clock",
                    x=list(range(len(points))),
                    y=[overhead(clock, name) for name in points],
                ),
                Curve(
                    name="of processors",
                    x=list(range(len(points))),
                    y=[overhead(processor, name) for name in points],
                ),
            ],
        ),
        notes=(
            "The engine is our server with the echo. Ours embeds the question (by hashing); the frameworks "
            "are given its vector. Telemetry, tracing, retries and query rewriting are off.",
            "Ours also writes the journal, checks citations and reports its sources; the processor time is "
            "that of the asking process and of the server together.",
        ),
    )


def overhead(found: Rounds, name: str) -> Interval:
    """ms beyond the bare call, paired by round."""
    return estimate([_beyond(mine, bare) for mine, bare in zip(found[name], found["bare call"], strict=True)])


def share(found: Rounds, other: str) -> Interval:
    """Our overhead ÷ another's, paired by round."""
    paired = zip(found["Fewshot"], found[other], found["bare call"], strict=True)
    return estimate([_beyond(ours, bare) / _beyond(theirs, bare) for ours, theirs, bare in paired])


def _beyond(mine: Pair, bare: Pair) -> float:
    """Never below what the bare call differs from itself: less than that nobody can claim."""
    return max(mine.mean - bare.mean, abs(bare.first - bare.second) / 2, 1e-3)


def _pins(name: str) -> dict[str, str]:
    file = HERE / f"{name}.txt"
    pins = dict(line.split("==") for line in file.read_text().split()) if file.is_file() else {}
    return {package: pins[package] for package in pins if name.replace("_", "-") in package}


@click.command()
@goal_options
@click.option("--only", multiple=True, type=click.Choice(FRAMEWORKS), help="Repeatable; else all of them.")
def command(quick: bool, out: Path, anyway: bool, only: tuple[str, ...]) -> None:
    """What LangChain, LlamaIndex, Haystack and Fewshot add to a call (G14); installs them apart."""
    rounds, count = (QUICK_ROUNDS, QUICK_QUESTIONS) if quick else (ROUNDS, QUESTIONS)
    measured(partial(measure, only or FRAMEWORKS, count, rounds), out=out, anyway=anyway)
