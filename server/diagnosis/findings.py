"""What a check has found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `fewshot doctor`."""

    name: str
    state: State
    found: str
    way_out: str = ""  # what to do, where there is something to do


def ok(name: str, found: str) -> Finding:
    """As it should be."""
    return Finding(name, "ok", found)


def warn(name: str, found: str, way_out: str) -> Finding:
    """It serves, but not as well or as long as it could."""
    return Finding(name, "warn", found, way_out)


def fail(name: str, found: str, way_out: str) -> Finding:
    """It does not serve, or not safely."""
    return Finding(name, "fail", found, way_out)
