"""Ids: a prefix and a ULID, so that they sort by time and a cursor outlives its item."""

from ulid import ULID


def new_id(prefix: str) -> str:
    """`new_id("chatcmpl-")` → `chatcmpl-01J…`."""
    return f"{prefix}{ULID()}"
