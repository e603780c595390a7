"""What is remembered of an object by which one it is, not by what it says."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Same(Generic[T]):
    """Equal to another one of the very same object: a key of `lru_cache` for what is long, and never changes.

    A cache that holds it holds the object, so that none made later can be taken for it.
    """

    __slots__ = ("one",)

    def __init__(self, one: T) -> None:
        self.one = one

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.one is self.one

    def __hash__(self) -> int:
        return id(self.one)
