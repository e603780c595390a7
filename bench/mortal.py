"""A server that may be killed at any moment, and who uses it meanwhile: chat, and tenants' documents."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx

from bench.client import READ_BYTES, chat
from bench.open_loop import closing, keyed

TOKENS, TOKEN_SECONDS = 16, 0.01


@dataclass
class Tenant:
    """One tenant's documents: word → file id. `unsure` are those whose answer never came."""

    name: str
    key: str
    store: str = ""
    kept: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)


class Server:
    """One `fewshot serve` after the other, on one port and folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = {
            "FEWSHOT_DATA_DIR": str(self.data),
            "FEWSHOT_EMBEDDER": "hash",
            "FEWSHOT_AUTH_ENABLED": "true",
            "FEWSHOT_ENGINE_ECHO_INTERVAL_SECONDS": str(TOKEN_SECONDS),
        }
        command = [sys.executable, "-m", "server.cli", "serve", "--echo", "--port", str(self.port)]
        with (self.data.parent / "server.log").open("ab") as log:
            self.child = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)

    async def back(self) -> float:
        """Seconds from now until it is ready."""
        began = time.monotonic()
        async with httpx.AsyncClient(timeout=2) as http:
            while True:
                try:
                    if (await http.get(f"{self.url}/ready")).status_code == 200:
                        return time.monotonic() - began
                except httpx.HTTPError:
                    pass
                if time.monotonic() - began > 120:
                    raise click.ClickException("the server did not come back; see server.log")
                await asyncio.sleep(0.05)

    def send(self, what: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(what)

    async def gone(self) -> int:
        assert self.child is not None
        return await asyncio.to_thread(self.child.wait)


@dataclass
class Run:
    """What happened."""

    server: Server
    until: float
    chance: random.Random
    asked: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)  # disturbances
    back: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until


async def asking(run: Run, key: str, rate: float) -> None:
    """Chat at a steady rate. Let in is who was connected and not refused."""
    request = keyed(closing(chat("echo", "Is anybody there?", TOKENS)), key)
    at_work: set[asyncio.Task[None]] = set()

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port, limit=2**20)
        except OSError:
            run.asked["not connected"] += 1
            return
        body = b""
        try:
            async with asyncio.timeout(60):
                writer.write(request)
                while got := await reader.read(READ_BYTES):
                    body += got
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()
        if body.startswith((b"HTTP/1.1 429", b"HTTP/1.1 503")):
            run.asked["refused"] += 1
        elif body.startswith(b"HTTP/1.1 200") and b"data: [DONE]" in body[-100:]:
            run.asked["answered"] += 1
        else:
            run.asked["cut off" if not body or body.startswith(b"HTTP/1.1 200") else body[9:12].decode()] += 1

    due = time.monotonic()
    while not run.over:
        task = asyncio.create_task(one())
        at_work.add(task)
        task.add_done_callback(at_work.discard)
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await asyncio.gather(*at_work)


async def documents(run: Run, tenant: Tenant) -> None:
    """One document after the other; sometimes one of the earlier ones is deleted."""
    headers = {"authorization": f"Bearer {tenant.key}"}
    number = 0
    async with httpx.AsyncClient(base_url=f"{run.server.url}/v1", headers=headers, timeout=30) as http:
        while not run.over:
            number += 1
            word = f"{tenant.name}word{number}"
            try:
                if not tenant.store:
                    made = await http.post("/vector_stores", json={"name": tenant.name})
                    tenant.store = made.raise_for_status().json()["id"]
                form = {"file": (f"{word}.txt", f"The {word} is a bird of the pond.")}
                sent = await http.post("/files", files=form, data={"purpose": "assistants"})
                file = sent.raise_for_status().json()["id"]
                tenant.unsure.add(word)  # until the answer is here
                attached = await http.post(f"/vector_stores/{tenant.store}/files", json={"file_id": file})
                attached.raise_for_status()
                tenant.unsure.discard(word)
                tenant.kept[word] = file
                if len(tenant.kept) > 5 and run.chance.random() < 0.3:
                    gone = run.chance.choice(sorted(tenant.kept))
                    old = tenant.kept.pop(gone)
                    tenant.unsure.add(gone)
                    (await http.delete(f"/files/{old}")).raise_for_status()
                    tenant.unsure.discard(gone)
                    tenant.deleted.add(gone)
            except httpx.HTTPError as problem:
                run.asked[f"documents: {_named(problem)}"] += 1
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.2)


def _named(problem: httpx.HTTPError) -> str:
    if isinstance(problem, httpx.HTTPStatusError):
        return str(problem.response.status_code)
    return type(problem).__name__
