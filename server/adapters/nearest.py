"""Names that are nearly the one asked for."""

import difflib
from collections.abc import Sequence

SHOWN = 5


def nearest(name: str, there: Sequence[str]) -> list[str]:
    """The nearest few; the first few where none is near."""
    return difflib.get_close_matches(name[:200], there, n=SHOWN, cutoff=0.5) or list(there[:SHOWN])
