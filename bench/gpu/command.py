"""Goals that want a card, over engines of a real size with random weights, started once for all of them.

    python -m bench gpu --shape 8b --out build/bench/8b            all of them
    python -m bench gpu --shape tiny --quick --anyway              the same code on a processor
    python -m bench gpu --shape 1b --goals saturation

Each goal's JSON, table and plot are written as soon as it is measured; one that fails is told and skipped.
"""

import asyncio
import math
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench.command import INVALID, goal_options, say
from bench.crowd import crowd
from bench.goals import rag_tax, ttft
from bench.gpu import goodput, lora, prefix, saturation
from bench.gpu.settle import settle
from bench.gpu.shapes import shapes, write_model
from bench.host import Host, host
from bench.library import fill
from bench.machine import Watch, refuse_when_busy
from bench.rag_requests import TOP
from bench.records import EXIT_CODES, NotMeasured, Result
from bench.report import markdown, write
from bench.rounds import ending_after
from indexer.devices import torch_names
from indexer.embedding import open_embedder
from indexer.machine import cores
from indexer.seams import Embedder
from server.models import locate
from server.settings import Settings, load_settings

GOALS = ("saturation", "ttft", "lora", "prefix", "rag_tax", "goodput")
SEARCHING = frozenset({"rag_tax", "goodput"})  # over a store of passages
TTFT = ttft.Effort(rounds=4, requests=16, tokens=16, concurrency=(1, 16, 64))
RAG_TAX = rag_tax.Effort(rounds=6, requests=16, passages=rag_tax.SHARE_PASSAGES)
EMBEDDER = "all-minilm-l6-v2"
TTFT_QUICK = ttft.Effort(rounds=2, requests=3, tokens=4, concurrency=(1, 4))


@click.command()
@goal_options
@click.option("--shape", default="8b", show_default=True, help=f"{', '.join(shapes())}, or a model's folder.")
@click.option("--goals", default=",".join(GOALS), show_default=True, help="These only, in this order.")
@click.option(
    "--models", type=click.Path(file_okay=False, path_type=Path), help="Where models of a shape are kept."
)
@click.option("--tokenizer", default="smollm2-135m-instruct", show_default=True, help="Whose tokenizer.")
@click.option("--share", default=0.5, show_default=True, help="Of the card, for the first engine.")
@click.option("--lora-share", default=0.36, show_default=True, help="Of the card, for the one with LoRA.")
@click.option("--kv-bytes", type=int, help="KV cache of each engine instead of what the share leaves.")
@click.option("--lora-streams", default=64, show_default=True, help="At once, beside LoRA.")
@click.option(
    "--library",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keeps the store that rag_tax and goodput search, or has it already.",
)
@click.option("--search-device", default="auto", show_default=True, help="Where they search: cpu, cuda:1.")
@click.option("--passages", type=click.IntRange(TOP), help="Of that store; 100,000 else.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="No round is begun, from now on, that would end later; each goal has two at least.",
)
@click.option("--settle", "patience", default=0.0, help="Seconds to wait for a quiet machine.")
def command(
    quick: bool,
    out: Path,
    anyway: bool,
    shape: str,
    goals: str,
    models: Path | None,
    tokenizer: str,
    share: float,
    lora_share: float,
    kv_bytes: int | None,
    lora_streams: int,
    library: Path | None,
    search_device: str,
    passages: int | None,
    minutes: float | None,
    patience: float,
) -> None:
    """G1, G2, G4, G5, G6 and G13 on a card, engines of a real size started once."""
    if not anyway and not patience:
        try:
            refuse_when_busy()
        except NotMeasured as problem:
            raise click.ClickException(str(problem)) from None
    wanted = goals.split(",")
    if unknown := set(wanted) - set(GOALS):
        raise click.UsageError(f"no goal {', '.join(sorted(unknown))}; there are {', '.join(GOALS)}")
    with (
        tempfile.TemporaryDirectory(prefix="fewshot-bench-") as scratch,
        ending_after(60 * minutes if minutes else math.inf),
    ):
        folder = _model(shape, tokenizer, models or Path(scratch))
        say(f"{shape}: {folder}")
        searched = Searched(library or Path(scratch, "library"), search_device)
        searching = _searching(quick, passages)
        if SEARCHING.intersection(wanted):
            fill(searched.folder, searching.passages, searched.embedder(), say)
        with _engines(
            folder, wanted, searched, _full(shape, quick).streams, _lora(quick, lora_streams), share,
            lora_share, kv_bytes, Path(scratch),
        ) as (plain, beside):  # fmt: skip
            if patience:
                say(f"engines are up; {settle(patience, say):.1f} cores busy")
            with crowd(max(1, min(cores() // 2, 8))) as clients:
                loras = _lora(quick, lora_streams)
                runs = _runs(plain, beside, clients, shape, quick, loras, searched, searching)
                raise SystemExit(max(_one(name, runs[name], out) for name in wanted))


def _model(shape: str, tokenizer: str, models: Path) -> Path:
    if Path(shape).is_dir():
        return Path(shape)
    if shape not in shapes():
        raise click.UsageError(f"no shape {shape} and no such folder; shapes are {', '.join(shapes())}")
    reading = locate(tokenizer, load_settings().paths.cache / "models")
    return write_model(shape, Path(reading), models / f"shape-{shape}")


class Searched(NamedTuple):
    """The folder whose store rag_tax and goodput search, and where: `retrieval.device`."""

    folder: Path
    device: str

    def embedder(self) -> Embedder:
        return open_embedder(EMBEDDER, load_settings().paths.cache / "models", torch_names(self.device))


@contextmanager
def _engines(
    folder: Path,
    wanted: Sequence[str],
    searched: Searched,
    streams: int,
    adapters: lora.Effort,
    share: float,
    lora_share: float,
    kv_bytes: int | None,
    scratch: Path,
) -> Iterator[tuple[Host | None, Host | None]]:
    """The plain engine, and the one with room for LoRA where it is wanted; None for what did not start."""
    knobs = {"model": str(folder), "context": 4096, "batch": max(streams, 64), "gpu_memory_share": share}
    if kv_bytes:
        knobs["kv_cache_bytes"] = kv_bytes
    knobs["block"] = 32  # longer than what every prompt begins with: the chat template is no cached prefix
    with ExitStack() as stack:
        opened: list[Host | None] = []
        loras: dict[str, Any] = {
            **knobs,
            "batch": adapters.streams,
            "gpu_memory_share": lora_share,
            "max_loras": lora.ACTIVE,
            "max_lora_rank": lora.RANK,
            "live_loras": lora.ACTIVE + 2,
        }
        for name, engine in (("plain", knobs), ("lora", loras)):
            if name == "lora" and "lora" not in wanted:
                opened.append(None)
                continue
            searching = searched if name == "plain" and SEARCHING.intersection(wanted) else None
            data = searching.folder if searching else scratch / name
            if name == "lora":
                staying, turning = lora.names(adapters.loads)
                lora.write_loras(folder, data / "inbox", [*staying, *turning])
            say(f"starting the {name} engine")
            try:
                opened.append(stack.enter_context(host(_settings(data, engine, searching))))
            except NotMeasured as problem:
                say(f"the {name} engine did not start: {problem}")
                opened.append(None)
        yield opened[0], opened[1]


def _full(shape: str, quick: bool) -> saturation.Effort:
    if quick:
        return saturation.QUICK
    return saturation.FULL_1B if shape == "1b" else saturation.FULL


def _lora(quick: bool, streams: int) -> lora.Effort:
    return lora.QUICK if quick else replace(lora.FULL, streams=streams, requests=3 * streams)


def _searching(quick: bool, passages: int | None) -> goodput.Effort:
    effort = goodput.QUICK if quick else goodput.FULL
    return replace(effort, passages=passages or effort.passages)


def _settings(data: Path, engine: dict[str, Any], searching: Searched | None) -> Settings:
    data.mkdir(parents=True, exist_ok=True)
    chosen = {
        "paths": {"data": str(data)},
        "server": {"port": 0, "queue": 4096},
        "retrieval": {"embedder": EMBEDDER, "device": searching.device}
        if searching
        else {"embedder": "hash"},
        "engine": engine,
    }
    return load_settings(environ={}, overrides=chosen)


Run = Callable[[], Awaitable[Result]]


def _runs(
    plain: Host | None,
    beside: Host | None,
    clients: Any,
    shape: str,
    quick: bool,
    loras: lora.Effort,
    searched: Searched,
    searching: goodput.Effort,
) -> dict[str, Run]:
    def need(engine: Host | None) -> Host:
        if engine is None:
            raise NotMeasured("its engine did not start")
        return engine

    async def full_engine() -> Result:
        return await saturation.measure(need(plain), clients, shape, _full(shape, quick), say)

    async def first_token() -> Result:
        found = await ttft.measure_on(need(plain), TTFT_QUICK if quick else TTFT, Watch(), say)
        return replace(found, title=f"{found.title}, shape {shape}")

    async def shared_prefix() -> Result:
        return await prefix.measure(need(plain), clients, shape, prefix.QUICK if quick else prefix.FULL, say)

    async def adapters() -> Result:
        return await lora.measure(need(plain), need(beside), clients, shape, loras, say)

    async def retrieval() -> Result:
        effort = replace(rag_tax.QUICK if quick else RAG_TAX, passages=searching.passages)
        return await rag_tax.measure_on(need(plain), searched.folder, searched.embedder(), effort, say)

    async def arriving() -> Result:
        return await goodput.measure(need(plain), clients, shape, searching, say)

    return {
        "saturation": full_engine,
        "ttft": first_token,
        "prefix": shared_prefix,
        "lora": adapters,
        "rag_tax": retrieval,
        "goodput": arriving,
    }


def _one(name: str, run: Run, out: Path) -> int:
    """The exit code of one goal; its report is written."""
    try:
        result = asyncio.run(_awaited(run))
    except Exception:  # whatever it was, the other goals are still to be measured
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.failed.txt").write_text(traceback.format_exc())
        say(f"{name} failed:\n{traceback.format_exc()}")
        return INVALID
    write(result, out)
    click.echo(markdown(result))
    return EXIT_CODES[result.verdict]


async def _awaited(run: Run) -> Result:
    return await run()
