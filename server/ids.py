"""Ids: a prefix and a ULID, so that they sort by time and a cursor outlives its item."""

import os
import time
from collections import deque

DRAWN_BYTES = 16
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, of 5 bits each
PAIRS = [high + low for high in DIGITS for low in DIGITS]
SHIFTS = range(120, -1, -10)  # 26 digits of a ULID's 128 bits
AT_ONCE = 256  # from the system: each call of it lets go of the interpreter, which others then hold


def new_id(prefix: str) -> str:
    """`new_id("chatcmpl-")` → `chatcmpl-01J…`."""
    return prefix + spelled(int(time.time() * 1e3), drawn())


def spelled(milliseconds: int, random: bytes) -> str:
    """A ULID of its time and its first ten random bytes (github.com/ulid/spec)."""
    value = milliseconds << 80 | int.from_bytes(random[:10], "big")
    return "".join([PAIRS[value >> shift & 1023] for shift in SHIFTS])


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
