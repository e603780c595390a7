"""How long the legs of a search took, told to whoever wants to know."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Leg = Literal["embed", "vector", "keyword", "fuse", "rerank"]
Told = Callable[[Leg, float], None]  # seconds of one leg; called on the search's threads


def untold(leg: Leg, seconds: float) -> None:
    """Nobody wants to know."""


@contextmanager
def timed(tell: Told, leg: Leg) -> Iterator[None]:
    """Tell how long this took, also when it failed."""
    began = time.perf_counter()
    try:
        yield
    finally:
        tell(leg, time.perf_counter() - began)
