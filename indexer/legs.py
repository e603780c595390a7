"""How long the legs of a search took, told to whoever wants to know."""

import time
from collections.abc import Callable
from typing import Literal

Leg = Literal["embed", "vector", "keyword", "fuse", "rerank"]
Told = Callable[[Leg, float], None]  # seconds of one leg; called on the search's threads


def untold(leg: Leg, seconds: float) -> None:
    """Nobody wants to know."""


class timed:
    """Tell how long this took, also when it failed."""

    __slots__ = ("_began", "_leg", "_tell")

    def __init__(self, tell: Told, leg: Leg) -> None:
        self._tell, self._leg = tell, leg

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._tell(self._leg, time.perf_counter() - self._began)
