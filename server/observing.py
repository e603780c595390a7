"""Who watches requests come and go: told when one begins, and when it has ended, whichever way."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope


class Request(NamedTuple):
    """One HTTP request that has ended."""

    id: str
    method: str
    route: str  # the template of its path: no ids, no query
    status: int  # 499: its caller went before an answer began
    seconds: float
    turn: str | None  # of a generation: its key in the journal


End = Callable[[Request], None]
Observer = Callable[[Scope], End]
