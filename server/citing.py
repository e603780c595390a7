"""Markers such as [2] in the answer → citations of sources that were really in the prompt.

Text that may be the start of a marker is held back until it is decided, so a marker that names no source is
gone before anybody has seen it.
"""

import re
from collections.abc import Sequence

from server.records import Citation, SourceUse

MARKER = re.compile(r"\[\s{0,2}\d{1,3}(?:\s{0,2},\s{0,2}\d{1,3}){0,7}\s{0,2}\]")
LONGEST = 64  # characters; MARKER matches nothing longer
# What may still become a marker when more text comes.
BEGUN = re.compile(r"\[(?:\s{0,2}\d{0,3}(?:\s{0,2},\s{0,2}\d{0,3}){0,7}\s{0,2})$")
# The markers of one place, with more of the same sentence behind them.
AFTER_MARKERS = re.compile(rf"(?:{MARKER.pattern}\s*)+,?\s*(?=[^\s\[.!?。！？\n])")
SENTENCE_END = re.compile(r"[.!?。！？]+[\"'”’)]*(?=\s|\[|$)|\n+|(?<=[。！？])")


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
        text = "".join(self._shown)
        return tuple(self._citation(text, *mark) for mark in self._marks)

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

    def _citation(self, text: str, number: int, start: int, end: int) -> Citation:
        source = self._sources[number]
        sentence_start, sentence_end = closed_sentence(text, start)
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


def closed_sentence(text: str, marker_start: int) -> tuple[int, int]:
    """The half-open span of the sentence that a marker at `marker_start` belongs to.

    A marker at the end closes what stands before it: `Paris is big [1].` and `Paris is big. [1]` both give
    `Paris is big` (and its full stop). One inside belongs to the whole: `As [1] says, Paris is big.`
    """
    end = marker_start
    while True:  # step back over blanks and over markers of the same sentence
        stripped = len(text[:end].rstrip())
        before = re.search(MARKER.pattern + r"$", text[:stripped])
        if before is None:
            end = stripped
            break
        end = before.start()
    start = 0
    for boundary in SENTENCE_END.finditer(text, 0, end):
        if boundary.end() < end:
            start = boundary.end()
    while start < end:  # what the previous sentence's markers left over
        leftover = re.match(r"\s+|" + MARKER.pattern, text[start:end])
        if leftover is None:
            break
        start += leftover.end()
    after = AFTER_MARKERS.match(text, marker_start)
    inside = after is not None and not SENTENCE_END.search(text[start:end][-2:] + " ")
    if inside:
        assert after is not None
        boundary = SENTENCE_END.search(text, after.end())
        end = boundary.end() if boundary else len(text)
        return start, len(text[:end].rstrip())
    return start, end
