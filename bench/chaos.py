"""C1 of the fault catalogue: everything at once, for as long as is asked, and what was promised holds.

    python -m bench chaos --minutes 120

Two tenants upload, attach, find and delete documents while chat is asked at a steady rate. Meanwhile, at
moments drawn from a seed, the server is killed and started again, stopped for seconds and let go on, told to
end and started again, asked ten times as much for two seconds; and where --data is a small file system, its
disk is filled:

    unshare -Urm sh -c 'mount -t tmpfs -o size=256m x /mnt && python -m bench chaos --data /mnt/x'

At the end: every document that was accepted can be found by its owner and nobody else, what was deleted by
nobody, `fewshot verify` finds nothing wrong, and of the requests that were let in nearly all were answered.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import httpx

from bench.machine import Watch
from bench.mortal import Run, Server, Tenant, asking, documents
from indexer.catalogue import Catalogue
from indexer.database import open_database
from indexer.verification import findings
from server.keys import Keys, read_secret

CALM_SECONDS = (8.0, 20.0)  # between two disturbances
FROZEN_SECONDS, FULL_SECONDS = 3.0, 3.0
BACK_SECONDS = 15.0
MUST_SHARE = 0.995
SMALL_BYTES = 2**30  # a file system to be filled
TENANTS = ("acme", "umbrella")
SCOPES = ["infer", "files"]


async def disturb(run: Run, key: str, rate: float, say: Callable[[str], object]) -> None:
    """One disturbance after the other, each followed by a calm."""
    server = run.server
    small = shutil.disk_usage(server.data).total <= SMALL_BYTES

    async def kill() -> None:
        server.send(signal.SIGKILL)
        await server.gone()
        server.start()

    async def drain() -> None:
        server.send(signal.SIGTERM)
        if code := await server.gone():
            run.wrong.append(f"told to end, it ended with {code}")
        server.start()

    async def freeze() -> None:
        server.send(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_SECONDS)
        server.send(signal.SIGCONT)

    async def flood() -> None:
        flooding = Run(server, time.monotonic() + 2, run.chance, asked=run.asked)
        await asyncio.gather(*(asking(flooding, key, rate) for _ in range(9)))

    async def fill() -> None:
        ballast = server.data / "ballast"
        with ballast.open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(1 << 16))
            except OSError:
                await asyncio.sleep(FULL_SECONDS)
        ballast.unlink()

    ways: list[Callable[[], Awaitable[None]]] = [kill, drain, freeze, flood, *([fill] if small else [])]
    while True:
        await asyncio.sleep(run.chance.uniform(*CALM_SECONDS))
        if run.over:
            return
        way = run.chance.choice(ways)
        await way()
        run.done[way.__name__] += 1
        run.back.append(await server.back())
        told = f"back after {run.back[-1]:.1f} s, {dict(run.asked)}, {len(run.wrong)} wrong"
        say(f"{(run.until - time.monotonic()) / 60:.1f} min left: {way.__name__}, {told}")


async def settle(run: Run, tenants: list[Tenant]) -> None:
    """After the last disturbance: wait until all is read, then hold what is found against what was said."""
    for tenant, other in zip(tenants, reversed(tenants), strict=True):
        headers = {"authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(base_url=f"{run.server.url}/v1", headers=headers, timeout=60) as http:
            for _ in range(600):
                counts = (await http.get(f"/vector_stores/{tenant.store}")).json()["file_counts"]
                if not counts["in_progress"]:
                    break
                await asyncio.sleep(0.1)
            if counts["failed"] or counts["in_progress"]:
                run.wrong.append(f"{tenant.name}: {counts}")
            known = {word: True for word in tenant.kept} | dict.fromkeys(tenant.deleted, False)
            for word, there in known.items():
                body = {"query": word, "search_mode": "keyword"}
                found = (await http.post(f"/vector_stores/{tenant.store}/search", json=body)).json()["data"]
                text = json.dumps(found)
                if (f"{word} " in text) is not there:
                    run.wrong.append(f"{tenant.name}: {word} is {'lost' if there else 'back'}")
                if other.name in text:
                    run.wrong.append(f"{tenant.name} finds what is {other.name}'s: {text[:200]}")
            denied = await http.post(f"/vector_stores/{other.store}/search", json={"query": "bird"})
            if denied.status_code != 404:
                run.wrong.append(f"{tenant.name} searched {other.name}'s store: {denied.status_code}")


async def chaos(
    data: Path, minutes: float, rate: float, seed: int, say: Callable[[str], object]
) -> dict[str, Any]:
    """The whole run in an empty folder; what was seen."""
    database = open_database(data / "journal.db")
    known = Keys(database, pepper=read_secret(data))
    tenants = [Tenant(name, known.create(tenant=name, scopes=SCOPES)) for name in TENANTS]
    database.dispose()
    run = Run(Server(data), 0.0, random.Random(seed))
    run.server.start()
    try:
        await run.server.back()
        run.until = time.monotonic() + 60 * minutes
        key = tenants[0].key
        async with asyncio.TaskGroup() as group:
            group.create_task(asking(run, key, rate))
            group.create_task(disturb(run, key, rate, say))
            for tenant in tenants:
                group.create_task(documents(run, tenant))
        await settle(run, tenants)
        run.server.send(signal.SIGTERM)
        if code := await run.server.gone():
            run.wrong.append(f"told to end, it ended with {code}")
    finally:
        if run.server.child is not None and run.server.child.poll() is None:
            run.server.child.kill()
            run.server.child.wait()
    catalogue = Catalogue(data)
    run.wrong += [problem for store in catalogue.stores() for problem in findings(catalogue, store)]
    catalogue.close()
    failed = sum(count for how, count in run.asked.items() if how == "cut off" or how.isdigit())
    return {
        "minutes": minutes,
        "seed": seed,
        "disturbances": dict(run.done),
        "asked": dict(sorted(run.asked.items())),
        "answered_of_admitted": run.asked["answered"] / max(1, run.asked["answered"] + failed),
        "back_seconds": {"most": max(run.back, default=0.0), "mean": sum(run.back) / max(1, len(run.back))},
        "documents": {
            one.name: {"kept": len(one.kept), "deleted": len(one.deleted), "unsure": len(one.unsure)}
            for one in tenants
        },
        "wrong": run.wrong[:20],
    }


@click.command()
@click.option("--minutes", default=120.0, show_default=True, help="A run under 20 is a look, not evidence.")
@click.option("--rate", default=20.0, show_default=True, help="Requests a second.")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="A new folder; on a file system of at most 1 GiB, that is filled too. It stays.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here as well.")
def main(minutes: float, rate: float, seed: int, data: Path | None, out: Path | None) -> None:
    """Kill, stop, flood and fill while documents come and go; does everything hold that was promised (C1)?

    Exit code 1 when a document that was accepted is lost, one that was deleted is back, a tenant sees
    another's, the server takes more than 15 s to come back, or fewer than 99.5 % of the requests that were
    let in were answered.
    """
    if data is not None and data.exists() and any(data.iterdir()):
        raise click.UsageError(f"{data} is not empty")
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="fewshot-chaos-") as place:
        folder = (data or Path(place)) / "data"
        folder.mkdir(parents=True)
        told = asyncio.run(chaos(folder, minutes, rate, seed, lambda line: click.echo(line, err=True)))
    text = json.dumps({**told, "machine": watch.describe()}, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")
    held = not told["wrong"], told["answered_of_admitted"] >= MUST_SHARE
    raise SystemExit(0 if all(held) and told["back_seconds"]["most"] <= BACK_SECONDS else 1)


if __name__ == "__main__":
    main()
