"""Callers who go away, at every phase: half a head, half a body, the queue, search, prefill, stream."""

import asyncio
import json
import random
import socket
import struct
import time
from urllib.parse import urlsplit

KINDS = {  # path, body: how far a request comes depends on when its caller goes
    "stream": ("chat/completions", {"stream": True}),
    "plain": ("chat/completions", {}),
    "grounded stream": ("chat/completions", {"stream": True, "fewshot": {"vector_store_ids": ["facts"]}}),
    "grounded": ("chat/completions", {"fewshot": {"vector_store_ids": ["facts"], "demos": 2}}),
    "choices": ("chat/completions", {"stream": True, "n": 3}),
    "completion": ("completions", {"prompt": "All work", "stream": True}),
    "response": ("responses", {"input": "All work", "stream": True}),
    "embedding": ("embeddings", {"model": "hash", "input": "All work and no play"}),
    "search": ("vector_stores/facts/search", {"query": "iron"}),
}
PHASES = ("head", "body", "sent", "waiting", "answered")
ABRUPT = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of a goodbye


def request(kind: str) -> bytes:
    path, more = KINDS[kind]
    body = {"model": "echo", **more}
    if path == "chat/completions":
        body["messages"] = [{"role": "user", "content": "How hot is iron when it melts?"}]
    said = json.dumps(body).encode()
    head = f"POST /v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(said)}\r\n\r\n".encode() + said


async def leave(url: str, kind: str, phase: str, chance: random.Random) -> None:
    """One caller, who goes at that phase."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    whole = request(kind)
    head = whole.index(b"\r\n\r\n") + 4
    cut = {"head": chance.randrange(head - 1), "body": chance.randrange(head, len(whole))}.get(phase)
    writer.write(whole[:cut])
    await writer.drain()
    match phase:
        case "waiting":
            await asyncio.sleep(chance.uniform(0, 0.4))
        case "answered":
            async with asyncio.timeout(30):
                await reader.read(1)
            await asyncio.sleep(chance.uniform(0, 0.1))
    if chance.random() < 0.5:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
    writer.close()


async def leave_all(url: str, many: int, seed: int) -> None:
    """`many` callers of all kinds and phases, some at once."""
    chance = random.Random(seed)
    turns = [(kind, phase) for kind in KINDS for phase in PHASES]
    chosen = [turns[number % len(turns)] for number in range(many)]
    await asyncio.gather(*(leave(url, *one, random.Random(chance.random())) for one in chosen))


def seconds_until(free, limit: float) -> float:
    """How long it takes until `free()` holds; the limit if it never does."""
    began = time.monotonic()
    while not free():
        if time.monotonic() - began > limit:
            return limit
        time.sleep(0.002)
    return time.monotonic() - began
