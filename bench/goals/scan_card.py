"""G8 on a card: ours through its dispatcher, FAISS's own settings beside it, torch below it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np

from bench.machine import Watch
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.rounds import Sample, estimate, floor, interleave, level, ratio
from bench.rows import DIMENSION, TOP, recall, seconds
from indexer.vectors import StoredVectors, Wanted, nearest_each
from indexer.vectors.card import Card
from indexer.vectors.cuda import CudaEngine, cards

BATCHES = (1, 16, 256, 4096)
REPEATS = {1: 50, 16: 30, 256: 10, 4096: 3}
SETTINGS = {  # name: 16 bits, cuVS
    "fp32": (False, False),
    "fp32 cuVS": (False, True),
    "fp16": (True, False),
    "fp16 cuVS": (True, True),
}
_BLOCK = 1 << 20

_faiss: Any = faiss


async def measure(rows: int, many: int, count: int, say: Callable[[str], object]) -> Result:
    """`rows` vectors for the batches, `many` for the bandwidth of one question."""
    if not cards():
        raise NotMeasured("FAISS sees no card: install faiss-gpu-cuvs in place of faiss-cpu")
    watch = Watch()
    torch: Any = __import__("torch")
    copy = _copier(torch)
    wide, half = _made(torch, many, rows, say)
    queries, _ = _made(torch, max(BATCHES), max(BATCHES), say)
    small, ids = half[:rows], np.arange(many)
    say("placing")
    resting = torch.cuda.mem_get_info()[0]
    card = Card(CudaEngine)
    free = torch.cuda.mem_get_info()[0]
    ours = card.place(StoredVectors(ids[:rows], small, {}), Wanted(kind="flat"))
    large = card.place(StoredVectors(ids, half, {}), Wanted(kind="flat"))
    held = free - torch.cuda.mem_get_info()[0]
    say(f"{held / 2**30:.2f} GiB held for {2 * (rows + many) * DIMENSION / 2**30:.2f} GiB of rows")
    resources = _faiss.StandardGpuResources()
    on_card = torch.from_numpy(small).cuda()
    arms: dict[str, Sample] = {
        "copy": _rate(copy),
        f"ours {many:,} 1": _timed(partial(nearest_each, [large], queries[:1], TOP), 100),
    }
    for batch in BATCHES:
        asked = queries[:batch]
        arms[f"ours {batch}"] = _timed(partial(_raw, ours, asked), REPEATS[batch])
        if batch <= 256:
            arms[f"torch {batch}"] = _timed(partial(_torch, torch, on_card, asked), REPEATS[batch])
    settings: dict[str, Any] = {}
    for name, (sixteen, cuvs) in SETTINGS.items():
        settings[name] = index = _plain(resources, wide, sixteen, cuvs)
        for batch in BATCHES:
            arms[f"faiss {name} {batch}"] = _timed(
                partial(index.search, queries[:batch], TOP), max(2, REPEATS[batch] // 5)
            )
    rounds = await interleave(arms, count, say)

    truth = settings["fp32"].search(queries, TOP)[1]
    found = _raw(ours, queries).positions
    same, bytes_read = recall(found, truth), half.nbytes
    checked = recall(_torch(torch, on_card, queries[:256]), found[:256])
    bandwidth = estimate(
        [
            bytes_read / mine.mean / copied.mean
            for mine, copied in zip(rounds[f"ours {many:,} 1"], rounds["copy"], strict=True)
        ]
    )
    rate = estimate([max(BATCHES) / pair.mean for pair in rounds[f"ours {max(BATCHES)}"]])
    bars = [
        Bar(name=f"bytes/s ÷ copy, one question, {many:,} rows", measured=bandwidth, sense="at least",
            must=0.70, moon=0.85),
        Bar(name=f"questions/s at {max(BATCHES)} a call, {rows:,} rows", measured=rate, sense="at least",
            must=150_000),
        Bar(name="recall@10 of fp32", measured=estimate([same]), sense="at least", must=0.999),
        *(
            Bar(name=f"÷ torch product + topk, batch {batch}",
                measured=ratio(rounds, f"torch {batch}", f"ours {batch}"), sense="at least", must=0.90)
            for batch in BATCHES
            if batch <= 256
        ),
        *(
            Bar(name=f"÷ FAISS as it comes (fp32), batch {batch}",
                measured=ratio(rounds, f"faiss fp32 {batch}", f"ours {batch}"), sense="at least")
            for batch in BATCHES
        ),
    ]  # fmt: skip
    card.close()
    return Result(
        goal="scan",
        title="G8: exact search on a card",
        workload=f"{rows:,} and {many:,} × {DIMENSION} unit vectors, 16 bits, top {TOP}, arrays of the host",
        bars=bars,
        ratio=bandwidth,
        noise_floor=floor(rounds, f"ours {many:,} 1", "copy"),
        rounds=rounds,
        arms={
            **{
                name: {("bytes/s" if name == "copy" else "seconds a call"): level(rounds, name)}
                for name in arms
            },
            "memory": {
                "held GiB": held / 2**30,
                "rows GiB": 2 * (rows + many) * DIMENSION / 2**30,
                "engine with its 512 MiB cap GiB": (resting - free) / 2**30,
            },
        },
        checks=[Check("ours finds what torch finds in 16 bits", checked >= 0.99, f"recall {checked:.4f}")],
        machine=watch.describe(),
        plot=Plot(
            x="questions a call",
            y="questions a second",
            curves=[
                Curve(name=kind, x=BATCHES, y=[_per_second(rounds, kind, batch) for batch in BATCHES])
                for kind in ("ours", *(f"faiss {name}" for name in SETTINGS))
            ],
        ),
        notes=("A copy's bytes count once read and once written.",),
    )


def _per_second(rounds: Any, kind: str, batch: int) -> Any:
    return estimate([batch / pair.mean for pair in rounds[f"{kind} {batch}"]])


def _raw(vectors: StoredVectors, queries: Any) -> Any:
    assert vectors.shortcut is not None
    return vectors.shortcut.search(vectors.stored, queries, TOP, None)


def _made(torch: Any, many: int, exact: int, say: Callable[[str], object]) -> tuple[Any, Any]:
    """Unit rows, the first `exact` in 32 bits, all in 16; made on the card: elsewhere it takes minutes."""
    say(f"making {many:,} rows")
    half = np.empty((many, DIMENSION), dtype=np.float16)
    wide = np.empty((exact, DIMENSION), dtype=np.float32)
    chance = torch.Generator(device="cuda").manual_seed(many)
    for start in range(0, many, _BLOCK):
        size = min(_BLOCK, many - start)
        block = torch.randn(size, DIMENSION, device="cuda", generator=chance)
        block = torch.nn.functional.normalize(block, dim=1)
        half[start : start + size] = block.half().cpu().numpy()
        if start < exact:
            wide[start : start + size] = block[: exact - start].cpu().numpy()
    torch.cuda.empty_cache()
    return wide, half


def _copier(torch: Any) -> Callable[[], float]:
    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copy() -> float:
        target.copy_(source)
        torch.cuda.synchronize()
        taken = seconds(lambda: ([target.copy_(source) for _ in range(8)], torch.cuda.synchronize()))
        return float(8 * 2 * source.numel() / taken)

    return copy


def _torch(torch: Any, rows: Any, queries: Any) -> Any:
    asked = torch.from_numpy(queries).cuda().half()
    return torch.topk(asked @ rows.T, TOP, dim=1).indices.cpu().numpy()


def _plain(resources: Any, rows: Any, sixteen: bool, cuvs: bool) -> Any:
    settings = _faiss.GpuIndexFlatConfig()
    settings.useFloat16, settings.use_cuvs = sixteen, cuvs
    index = _faiss.GpuIndexFlatIP(resources, DIMENSION, settings)
    index.add(rows)
    return index


def _timed(work: Callable[[], object], repeats: int) -> Sample:
    def once() -> float:
        work()
        return seconds(lambda: [work() for _ in range(repeats)]) / repeats

    async def sample() -> float:
        return await asyncio.to_thread(once)

    return sample


def _rate(work: Callable[[], float]) -> Sample:
    async def sample() -> float:
        return work()

    return sample
