"""The way of a piece to its reader past those who wait for it.

A streamed answer is a task that waits in a chain of generators: whoever writes, frames, answers, decodes.
To wake it costs as much as all that they do with most pieces. So a decoder that has something while it is
waited for may offer it first (`Show` in server/seams.py), in a plain call: nobody is woken, and deadline,
loss of the engine and the caller's going find the task where they always do. What finds no way, and first and
last pieces, go through the generators.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from server.records import Piece


class Writer(Protocol):
    """Where frames are written. While it is not `open` they would have to be waited for."""

    @property
    def open(self) -> bool: ...

    def write(self, data: bytes) -> bool: ...


@dataclass(slots=True)
class Outlet:
    """Of one stream: how its pieces are framed, once its opening is told, and where frames are written."""

    framed: Callable[[Piece], bytes] | None = None
    writer: Writer | None = None
