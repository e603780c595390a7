"""Ids: a prefix and a ULID, so that they sort by time and a cursor outlives its item."""

import os
import time
from collections import deque

from ulid import ULID

DRAWN_BYTES = 16
AT_ONCE = 256  # from the system: each call of it lets go of the interpreter, which others then hold


def new_id(prefix: str) -> str:
    """`new_id("chatcmpl-")` → `chatcmpl-01J…`."""
    return f"{prefix}{ULID(int(time.time() * 1e3).to_bytes(6, 'big') + drawn()[:10])}"


def drawn() -> bytes:
    """16 bytes that nobody can guess. Thread-safe."""
    while True:
        try:
            return _drawn.popleft()
        except IndexError:
            more = os.urandom(DRAWN_BYTES * AT_ONCE)
            _drawn.extend(more[at : at + DRAWN_BYTES] for at in range(0, len(more), DRAWN_BYTES))


_drawn: deque[bytes] = deque()
os.register_at_fork(after_in_child=_drawn.clear)  # or two processes would give the same ids
