"""Token ids as bytes: what is hashed, counted and written down of a prompt or an answer."""

import sys
from array import array


def token_bytes(rows: tuple[tuple[int, ...], ...]) -> bytes:
    """Token ids as uint32, little endian, row after row."""
    return b"".join(_little(array("I", row)).tobytes() for row in rows)


def _little(ids: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
