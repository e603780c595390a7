"""What of a chunk is embedded and indexed: where it stands, the header of its table, and its text.

Link targets are left out of both. What is shown is the chunk's text as it is in the document.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from indexer.seams import Embedder

SHARE = 4  # where it stands takes at most a quarter of the window, a table's header another
BETWEEN = " › "
_TARGETS = re.compile(r"\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)|<https?://[^>\s]+>")


def readable(text: str) -> str:
    """The text without the targets of Markdown links: they cost tokens and mean nothing."""
    if "](" not in text and "<http" not in text:  # nearly always, and found faster
        return text
    return _TARGETS.sub(lambda found: "]" if found[0].startswith("]") else "", text)


def indexed(title: str, text: str, headings: Sequence[str] = (), lead: str = "") -> str:
    """What the keyword leg sees of a chunk; ingest, compaction and reranking make it here alike."""
    place = BETWEEN.join(_steps(title, headings))
    return f"{place}\n{readable(lead + text)}" if place else readable(lead + text)


def embedded(title: str, text: str, headings: Sequence[str], lead: str, embedder: Embedder) -> str:
    """What is embedded of a chunk; fits the window when the chunk was cut for it."""
    return context(title, headings, embedder) + readable(lead + text)


def context(title: str, headings: Sequence[str], embedder: Embedder) -> str:
    """`title › heading › heading` and a line end, at most a quarter of the window; "" where there is neither.

    What does not fit goes from the middle: the title and the innermost heading say most.
    """
    room = embedder.max_tokens // SHARE
    steps = _steps(title, headings)
    while len(steps) > 2 and embedder.count([BETWEEN.join(steps)])[0] > room:
        del steps[1]
    if len(steps) == 2 and embedder.count([BETWEEN.join(steps)])[0] > room:
        between = embedder.count([BETWEEN])[0]
        last = shortened(steps[1], (room - between) // 2, embedder)
        rest = room - between - embedder.count([last])[0]
        steps = [step for step in (shortened(steps[0], rest, embedder), last) if step]
    line = shortened(BETWEEN.join(steps), room, embedder)
    return line and line + "\n"


def shortened(line: str, room: int, embedder: Embedder) -> str:
    """The line's beginning in at most `room` tokens, cut between words where there are any."""
    while line and embedder.count([line])[0] > room:
        line = line[: len(line) * 3 // 4].rpartition(" ")[0] or line[: len(line) // 2]
    return line


def _steps(title: str, headings: Sequence[str]) -> list[str]:
    """Title and headings, each on a line; what repeats the step before it is said once."""
    if not headings:
        line = " ".join(title.split())
        return [line] if line else []
    lines = (" ".join(step.split()) for step in (title, *headings))
    return [line for line, _ in groupby(line for line in lines if line)]
