"""Markers such as [2] in the answer → citations of sources that were really in the prompt.

Text that may be the start of a marker is held back until it is decided, so a marker that names no source is
gone before anybody has seen it.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from server.records import Citation, SourceUse

MARKER = re.compile(r"\[\s{0,2}\d{1,3}(?:\s{0,2},\s{0,2}\d{1,3}){0,7}\s{0,2}\]")
LONGEST = 64  # characters; MARKER matches nothing longer
# What may still become a marker when more text comes.
BEGUN = re.compile(r"\[(?:\s{0,2}\d{0,3}(?:\s{0,2},\s{0,2}\d{0,3}){0,7}\s{0,2})$")
# A sentence ends with its markers: `Cats sleep. [1] Dogs bark.` has one after `[1]`.
SENTENCE_END = re.compile(
    rf"[.!?]+[\"'”’)]*(?:[ \t]*{MARKER.pattern})*(?=\s|$)|[。！？]+(?:{MARKER.pattern})*|\n+"
)
LAST_MARKER = re.compile(rf"{MARKER.pattern}$")


class Sentence(NamedTuple):
    """Half-open spans: `start` … `stop` covers the markers and blanks around, `first` … `last` does not."""

    start: int
    stop: int
    first: int
    last: int


class Citer:
    """Feeds on one choice's text, gives back what may be shown, and remembers the citations."""

    def __init__(self, sources: Sequence[SourceUse]) -> None:
        self._sources = {source.n: source for source in sources if source.used}
        self._held = ""
        self._shown: list[str] = []
        self._length = 0
        self._marks: list[tuple[int, int, int]] = []  # source number, start, end
        self.dropped = 0

    def feed(self, text: str) -> str:
        """The text that is safe to show now; the rest waits for more."""
        if not self._held and "[" not in text:  # nearly every piece
            return self._show(text)
        text = self._held + text
        begun = BEGUN.search(text, max(0, len(text) - LONGEST))
        cut = begun.start() if begun else len(text)
        self._held = text[cut:]
        return self._resolve(text[:cut])

    def finish(self) -> str:
        """What was still held back: the end of the answer decides it."""
        rest, self._held = self._held, ""
        return self._resolve(rest)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Of everything shown so far."""
        if not self._marks:
            return ()
        spans = sentences("".join(self._shown))
        return tuple(self._citation(spans, *mark) for mark in self._marks)

    def _resolve(self, text: str) -> str:
        shown, end = [], 0
        for match in MARKER.finditer(text):
            shown.append(self._show(text[end : match.start()]))
            end = match.end()
            named = [int(number) for number in re.findall(r"\d+", match.group())]
            kept = [number for number in named if number in self._sources]
            self.dropped += len(named) - len(kept)
            if kept:
                start = self._length
                marker = self._show(f"[{', '.join(map(str, kept))}]")
                shown.append(marker)
                self._marks += [(number, start, self._length) for number in kept]
        shown.append(self._show(text[end:]))
        return "".join(shown)

    def _show(self, text: str) -> str:
        if text:
            self._shown.append(text)
            self._length += len(text)
        return text

    def _citation(self, spans: Sequence[Sentence], number: int, start: int, end: int) -> Citation:
        source = self._sources[number]
        sentence_start, sentence_end = sentence_of(spans, start)
        return Citation(
            source=source,
            marker_start=start,
            marker_end=end,
            answer_start=sentence_start,
            answer_end=sentence_end,
            check="chunk",
            char_start=source.char_start,
            char_end=source.char_end,
        )


def sentences(text: str) -> list[Sentence]:
    """All of `text`, sentence by sentence."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    return [_sentence(text, start, stop) for start, stop in pairwise([0, *ends])]


def sentence_of(spans: Sequence[Sentence], marker_start: int) -> tuple[int, int]:
    """The span of the sentence that a marker belongs to, without blanks and markers around it."""
    found = spans[bisect_right(spans, marker_start, key=lambda sentence: sentence.start) - 1]
    return found.first, found.last


def _sentence(text: str, start: int, stop: int) -> Sentence:
    first = start
    while first < stop and text[first].isspace():
        first += 1
    last = whole = _before_blanks(text, first, stop)
    while marker := LAST_MARKER.search(text, max(first, last - LONGEST), last):  # `$` is at `last`
        last = _before_blanks(text, first, marker.start())
    return Sentence(start, stop, first, last if last > first else whole)


def _before_blanks(text: str, first: int, stop: int) -> int:
    while stop > first and text[stop - 1].isspace():
        stop -= 1
    return stop
