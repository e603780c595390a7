"""Which parts of a document may share a chunk: runs under one path of headings, tables, small neighbours."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from indexer.records import Document

SMALL_SHARE = 4  # a run of less than a quarter of the room is small


@dataclass(frozen=True, slots=True)
class Run:
    """A span of a document's text, half-open, that stands under one path of headings."""

    start: int
    end: int
    headings: tuple[str, ...]
    lead: str = ""  # of the table that the run is, if it is one
    begun: bool = False  # the table's header stands before the span
    tokens: int = 0
    heading_only: bool = False


def runs(document: Document, start: int, end: int) -> Iterator[Run]:
    """The sections inside a span; neighbours under the same headings, such as pages, flow together."""
    at = 0
    last: Run | None = None
    for section in document.sections:
        first, at = at, at + len(section.text)
        if at <= start or first >= end:
            continue
        begun = bool(section.lead) and first < start
        run = Run(max(first, start), min(at, end), section.headings, section.lead, begun)
        if last and not last.lead and not run.lead and last.headings == run.headings:
            last = replace(last, end=run.end)
            continue
        if last:
            yield last
        last = run
    if last:
        yield last


def arranged(
    found: Iterator[Run],
    text: str,
    count: Callable[[Sequence[str]], list[int]],
    room: Callable[[Run], int],
) -> list[Run]:
    """Runs with their tokens, small ones joined with their neighbours as far as both fit into the room.

    Joined are: what stands under the same headings, a small opening with the first part of what it
    opens, small neighbours, and headings without a text of their own with what follows them.
    """
    filled = [run for run in found if text[run.start : run.end].strip()]
    counts = count([text[run.start : run.end] for run in filled])
    arranged: list[Run] = []
    for run, tokens in zip(filled, counts, strict=True):
        run = replace(run, tokens=tokens, heading_only=heading_only(text[run.start : run.end]))
        last = arranged[-1] if arranged else None
        if last is None or last.begun or run.begun:
            arranged.append(run)
            continue
        joined = replace(
            run if last.heading_only else last,
            start=last.start,
            end=run.end,
            tokens=last.tokens + tokens,
            heading_only=last.heading_only and run.heading_only,
            lead="",
            begun=False,
        )
        fits = joined.tokens <= room(joined) and count([text[joined.start : joined.end]])[0] <= room(joined)
        if last.heading_only:
            arranged[-1] = joined if fits else replace(joined, lead=run.lead)
        elif fits and _belong(last, run, room):
            arranged[-1] = joined
        else:
            arranged.append(run)
    return arranged


def _belong(last: Run, run: Run, room: Callable[[Run], int]) -> bool:
    if last.headings == run.headings:
        return True
    small = last.tokens * SMALL_SHARE < room(last)
    opens = run.headings[: len(last.headings)] == last.headings
    return small and (opens or run.tokens * SMALL_SHARE < room(run))


def heading_only(text: str) -> bool:
    """Whether every line of a Markdown text is a heading."""
    return all(line.startswith("#") for line in text.split("\n") if line.strip())
