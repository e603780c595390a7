"""L8 of the fault catalogue: a server under steady mixed load for a long time, and what grows.

    python -m bench soak --minutes 60

The engine is an echo. Streams, whole answers, retrieval, completions, responses, embeddings and searches
come at a steady rate; every few seconds a document is uploaded, found, and deleted again, and an adapter is
loaded, asked and unloaded. Memory is RssAnon + VmSwap of the server and of the processes under it.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np

from bench.adapter_folders import write_folders
from bench.client import chat, post
from bench.machine import Watch
from bench.open_loop import ask, closing
from bench.processor import family, memory_mb, opened
from bench.servers import fewshot_server
from server.models import locate
from server.settings import load_settings

WARM_UP_SHARE = 0.25  # of the whole run, left out of the slope: pools, caches and arenas fill
SAMPLE_SECONDS = 5.0
CHURN_SECONDS = 4.0  # between two documents, and between two adapters
TOKENS = 24
MUST_SLOPE_MB = 5.0  # an hour
MUST_DRIFT = 0.10
QUESTION = "Which sentence is about ducks?"
KEPT = [{"id": f"kept-{n}", "text": f"Fact {n}: duck {n} swims on pond {n % 9}."} for n in range(200)]


@dataclass
class Run:
    """What was seen so far."""

    began: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds since the beginning, MB
    server: list[tuple[float, float]] = field(default_factory=list)  # the same of the server's process alone
    files: list[int] = field(default_factory=list)  # descriptors
    threads: list[int] = field(default_factory=list)
    first: list[tuple[float, float]] = field(default_factory=list)  # when, seconds to the first token
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    documents: int = 0
    adapters: int = 0

    @property
    def now(self) -> float:
        return time.monotonic() - self.began


def requests() -> list[tuple[str, bytes]]:
    """The mix: one of each kind in turn."""
    said = [{"role": "user", "content": QUESTION}]
    grounded = {"fewshot": {"vector_store_ids": ["kept"]}}
    return [
        ("stream", chat("echo", QUESTION, TOKENS)),
        ("whole", post("/v1/chat/completions", {"model": "echo", "messages": said})),
        ("retrieval", post("/v1/chat/completions", {"model": "echo", "messages": said, **grounded})),
        ("stream", chat("echo", QUESTION, TOKENS)),
        ("completion", post("/v1/completions", {"model": "echo", "prompt": QUESTION, "max_tokens": TOKENS})),
        ("embedding", post("/v1/embeddings", {"model": "hash", "input": QUESTION})),
        ("search", post("/v1/vector_stores/kept/search", {"query": QUESTION})),
        ("response", post("/v1/responses", {"model": "echo", "input": QUESTION})),
    ]


async def steady(port: int, rate: float, run: Run, until: float) -> None:
    """Requests at a steady rate, whatever becomes of them."""
    mix = [(kind, closing(request)) for kind, request in requests()]
    asking: set[asyncio.Task[None]] = set()

    async def one(kind: str, request: bytes, due: float) -> None:
        heard = await ask(port, request, due)
        run.statuses[f"{kind} {heard.status}"] += 1
        if heard.status != 200 or not heard.whole:
            run.wrong.append(f"{run.now:.0f} s: {kind} {heard.status}")
        elif kind == "stream":
            run.first.append((run.now, heard.first - due))

    due, number = time.monotonic(), 0
    while time.monotonic() < until:
        task = asyncio.create_task(one(*mix[number % len(mix)], due))
        asking.add(task)
        task.add_done_callback(asking.discard)
        due, number = due + 1 / rate, number + 1
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*asking)


async def documents(http: httpx.AsyncClient, run: Run, until: float) -> None:
    """A document comes, is found, and goes; in a store that stays."""
    store = (await _post(http, "vector_stores", name="churn"))["id"]
    while time.monotonic() < until:
        word = f"quack{run.documents}"
        content = f"# A duck\n\nThe password is {word}. " + "Ducks swim and dive. " * 200
        made = await http.post(
            "/v1/files", files={"file": ("duck.md", content)}, data={"purpose": "assistants"}
        )
        made.raise_for_status()
        file = made.json()["id"]
        await _post(http, f"vector_stores/{store}/files", file_id=file)
        await _read(http, f"/v1/vector_stores/{store}/files/{file}")
        found = await _post(http, f"vector_stores/{store}/search", query=f"password {word}")
        if not any(word in part["text"] for hit in found["data"] for part in hit["content"]):
            run.wrong.append(f"{run.now:.0f} s: the document with {word} was not found")
        (await http.delete(f"/v1/files/{file}")).raise_for_status()
        after = await _post(http, f"vector_stores/{store}/search", query=f"password {word}")
        if any(word in part["text"] for hit in after["data"] for part in hit["content"]):
            run.wrong.append(f"{run.now:.0f} s: the deleted document with {word} was found")
        run.documents += 1
        await asyncio.sleep(CHURN_SECONDS)


async def adapters(http: httpx.AsyncClient, run: Run, until: float) -> None:
    """Versions come into the engine and go; each says by its answer that it is the one that was asked."""
    known = [(await _post(http, "adapters", name=name, inbox=name))["id"] for name in ("lora-0", "lora-1")]
    while time.monotonic() < until:
        reference = known[run.adapters % len(known)]
        await _post(http, f"adapters/{reference}/load")
        messages = [{"role": "user", "content": "Hi"}]
        told = await _post(http, "chat/completions", model=reference, messages=messages)
        if not told["choices"][0]["message"]["content"].startswith(f"[{reference}]"):
            run.wrong.append(f"{run.now:.0f} s: {reference} was asked and another answered")
        await _post(http, f"adapters/{reference}/unload")
        run.adapters += 1
        await asyncio.sleep(CHURN_SECONDS)


async def watched(pid: int, run: Run, until: float, say: Callable[[str], object]) -> None:
    """Samples of what may grow."""
    while time.monotonic() < until:
        alive = family(pid)
        run.memory.append((run.now, sum(map(memory_mb, alive))))
        run.server.append((run.now, memory_mb(pid)))
        descriptors, threads = opened(pid)
        run.files.append(descriptors)
        run.threads.append(threads)
        if len(run.memory) % 60 == 0:
            say(f"{run.now / 60:.0f} min: {run.memory[-1][1]:.0f} MB, {len(run.wrong)} wrong")
        await asyncio.sleep(SAMPLE_SECONDS)


async def soak(pid: int, port: int, minutes: float, rate: float, say: Callable[[str], object]) -> Run:
    run = Run()
    until = time.monotonic() + 60 * minutes
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=60) as http, asyncio.TaskGroup() as group:
        group.create_task(steady(port, rate, run, until))
        group.create_task(documents(http, run, until))
        group.create_task(adapters(http, run, until))
        group.create_task(watched(pid, run, until, say))
    return run


def summary(run: Run, minutes: float, rate: float) -> dict[str, Any]:
    """What grew after the warm-up: memory by least squares, and the p99 of the last third on the first's."""
    warm = WARM_UP_SHARE * 60 * minutes
    kept = [(at, mb) for at, mb in run.memory if at >= warm]
    slope, _ = growth(kept)
    lows, means, _ = by_minute(kept)
    later = [(at, seconds) for at, seconds in run.first if at >= warm]
    third = (60 * minutes - warm) / 3
    early = [seconds for at, seconds in later if at < warm + third]
    late = [seconds for at, seconds in later if at >= 60 * minutes - third]
    p99 = [float(np.quantile(part, 0.99)) for part in (early, late)]
    return {
        "minutes": minutes,
        "requests_per_second": rate,
        "requests": sum(run.statuses.values()),
        "statuses": dict(sorted(run.statuses.items())),
        "documents": run.documents,
        "adapter_cycles": run.adapters,
        "wrong": run.wrong[:20],
        "memory_mb": {"after_warm_up": _mean(run.memory, warm), "at_the_end": run.memory[-1][1]},
        "memory_slope_mb_per_hour": slope,
        "memory_slope_standard_error": growth(means)[1],
        "slope_of_each_minutes_lowest_mb_per_hour": growth(lows)[0],
        "memory_mb_by_minute": [
            [round(mb) for _, mb in at] for at in zip(*by_minute(run.memory), strict=True)
        ],
        "server_alone_slope_mb_per_hour": growth([(at, mb) for at, mb in run.server if at >= warm])[0],
        "ttft_p99_ms": {"first_third": p99[0] * 1e3, "last_third": p99[1] * 1e3},
        "p99_drift": p99[1] / p99[0] - 1,
        "descriptors": [run.files[0], max(run.files), run.files[-1]],
        "threads": [run.threads[0], max(run.threads), run.threads[-1]],
    }


def growth(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Megabytes an hour by least squares over (seconds, MB), and the standard error of that."""
    hours, megabytes = np.asarray(samples).T / np.asarray([[3600.0], [1.0]])
    slope, start = np.polyfit(hours, megabytes, 1)
    rest = megabytes - slope * hours - start
    spread = np.sqrt((rest @ rest) / max(len(hours) - 2, 1))
    return float(slope), float(spread / np.sqrt(((hours - hours.mean()) ** 2).sum()))


def by_minute(samples: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The lowest, the mean and the highest of each minute's samples, in order of time, with its seconds.

    Free pages go back to the system once a minute, so samples within one hang together: what they say of the
    slope's error counts as one. The lowest is what the server holds when all that is free has gone.
    """
    within = [
        (60.0 * minute, [mb for _, mb in some])
        for minute, some in itertools.groupby(samples, lambda sample: sample[0] // 60)
    ]
    return [
        [(start, float(take(megabytes))) for start, megabytes in within] for take in (np.min, np.mean, np.max)
    ]


def _mean(memory: list[tuple[float, float]], since: float) -> float:
    return float(np.mean([mb for at, mb in memory if since <= at < since + 120]))


async def _read(http: httpx.AsyncClient, path: str) -> None:
    for _ in range(600):
        if (await http.get(path)).json()["status"] != "in_progress":
            return
        await asyncio.sleep(0.1)
    raise click.ClickException(f"{path} is still being read after a minute")


async def _post(http: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(f"/v1/{path}", json=body)
    if answer.status_code != 200:
        raise click.ClickException(f"{path}: {answer.status_code} {answer.text}")
    told: dict[str, Any] = answer.json()
    return told


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="A run under 10 is a look, not evidence.")
@click.option("--rate", default=20.0, show_default=True, help="Requests a second.")
@click.option(
    "--model", default="smollm2-135m-instruct", show_default=True, help="What adapters are made for."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here as well.")
def main(minutes: float, rate: float, model: str, out: Path | None) -> None:
    """Steady mixed load with documents and adapters coming and going: does memory grow, does it get slower?

    Exit code 1 when memory grows by more than 5 MB an hour, the p99 time to the first token by more
    than a tenth, or anything was answered wrongly.
    """
    watch = Watch()
    folder = Path(locate(model, load_settings().paths.cache / "models"))
    with tempfile.TemporaryDirectory(prefix="fewshot-soak-") as place:
        data = Path(place)
        write_folders(folder, data / "inbox", turning=0)
        rows = data / "kept.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in KEPT))
        settings = {
            "FEWSHOT_DATA_DIR": place,
            "FEWSHOT_EMBEDDER": "hash",
            "FEWSHOT_ENGINE_MODEL": str(folder),
            "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": "0.01",
        }
        ingest(rows, data)
        with fewshot_server(settings, "--echo") as (pid, port):
            run = asyncio.run(soak(pid, port, minutes, rate, lambda line: click.echo(line, err=True)))
    found = {**summary(run, minutes, rate), "machine": watch.describe()}
    text = json.dumps(found, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")
    bars = (
        not run.wrong,
        found["memory_slope_mb_per_hour"] <= MUST_SLOPE_MB,
        found["p99_drift"] <= MUST_DRIFT,
    )
    raise SystemExit(0 if all(bars) else 1)


def ingest(rows: Path, data: Path) -> None:
    """The store that is searched all the time."""
    from indexer.commands.ingest import ingest as command

    command.main(
        [str(rows), "--store", "kept", "--data", str(data), "--embedder", "hash"], standalone_mode=False
    )


if __name__ == "__main__":
    main()
