"""Markers such as [2] in the answer → citations of sources that were really in the prompt, and their support.

Text that may be the start of a marker is held back until it is decided, so a marker that names no source is
gone before anybody has seen it. Where the source says what the sentence says is looked up once, at the end.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from server.markers import Markers, Shown
from server.sources import Citation, SourceUse
from server.support import SourceText, Support, says_something

MARKER = re.compile(r"\[\d{1,3}(?:, \d{1,3}){0,49}\]")  # as Markers shows them
UNCLOSED = re.compile(r"\[[\d,\s]*$")  # where the answer was cut off: no number that the source must have
LONGEST = 256  # characters; MARKER matches nothing longer
CLAUSE = 12  # characters; a shorter piece of a sentence is found anywhere
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


class Mark(NamedTuple):
    """A marker as shown: the sources it names and its half-open span."""

    numbers: tuple[int, ...]
    start: int
    end: int


class Verified(NamedTuple):
    """What was found out about a whole answer."""

    citations: tuple[Citation, ...]
    unsupported: tuple[tuple[int, int], ...]  # sentences that no source of the prompt words, half-open


class Citer:
    """Feeds on one choice's text, gives back what may be shown, and remembers the citations."""

    def __init__(self, sources: Sequence[SourceUse]) -> None:
        self._sources = {source.n: source for source in sources if source.used}
        self._texts: dict[int, SourceText] = {}
        self._markers = Markers(self._sources.__contains__)
        self._shown: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self.verified: Verified | None = None

    @property
    def dropped(self) -> int:
        """Numbers that named no source of the prompt."""
        return self._markers.dropped

    @property
    def cites(self) -> bool:
        return bool(self._marks)

    @property
    def cited(self) -> tuple[SourceUse, ...]:
        """The sources that the markers shown so far name, in the prompt's order."""
        numbers = {number for mark in self._marks for number in mark.numbers}
        return tuple(self._sources[number] for number in sorted(numbers))

    def feed(self, text: str) -> str:
        """The text that is safe to show now; the rest waits for more."""
        if self._markers.idle and "[" not in text:  # nearly every token
            self._shown.append(text)
            self._length += len(text)
            return text
        return self._show(self._markers.read(text))

    def finish(self) -> str:
        """What was still held back: the end of the answer decides it."""
        return self._show(self._markers.finish())

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Of everything shown so far; certain of the chunk alone until `verify` has run."""
        if self.verified is not None:
            return self.verified.citations
        if not self._marks:
            return ()
        answer = self._answer()
        return tuple(
            self._citation(sentence_of(answer.sentences, mark.start), mark, number, None)
            for mark in self._marks
            for number in mark.numbers
        )

    def verify(self, *, every_sentence: bool = False) -> Verified:
        """Look up the support of every citation and, if asked, of the sentences without one.

        About a third of a millisecond a sentence and source: not for the event loop.
        """
        answer = self._answer()
        citations: list[Citation] = []
        checked: dict[tuple[int, int], bool] = {}  # sentence → whether all its citations are supported
        for mark in self._marks:
            sentence = sentence_of(answer.sentences, mark.start)
            for number in mark.numbers:
                support = self._support(answer, sentence, mark, number)
                citations.append(self._citation(sentence, mark, number, support))
                checked[sentence] = support is not None and checked.get(sentence, True)
        unsupported = []
        for spot in answer.sentences if every_sentence else ():
            span = spot.first, spot.last
            claim = answer.claim(*span)
            if not checked.get(span) and says_something(claim) and not self._located_anywhere(claim):
                unsupported.append(span)
        self.verified = Verified(tuple(citations), tuple(unsupported))
        return self.verified

    def _show(self, parts: Iterable[Shown]) -> str:
        texts = []
        for part in parts:
            if part.numbers:
                self._marks.append(Mark(part.numbers, self._length, self._length + len(part.text)))
            texts.append(part.text)
            self._length += len(part.text)
        self._shown += texts
        return "".join(texts)

    def _answer(self) -> "_Answer":
        text = "".join(self._shown)
        return _Answer(text, sentences(text))

    def _support(
        self, answer: "_Answer", sentence: tuple[int, int], mark: Mark, number: int
    ) -> Support | None:
        """Of the whole sentence, or where markers divide it, of the part that this one closes."""
        source = self._text(number)
        found = source.locate(answer.claim(*sentence))
        others = [other.end for other in self._marks if sentence[0] <= other.start < sentence[1]]
        if found is None and len(others) > 1:
            part = answer.claim(max([sentence[0], *(end for end in others if end <= mark.start)]), mark.start)
            found = source.locate(part) if len(part.strip()) >= CLAUSE else None
        return found

    def _located_anywhere(self, claim: str) -> bool:
        return any(self._text(number).locate(claim) for number in self._sources)

    def _text(self, number: int) -> SourceText:
        if number not in self._texts:
            self._texts[number] = SourceText(self._sources[number].text)
        return self._texts[number]

    def _citation(
        self, sentence: tuple[int, int], mark: Mark, number: int, support: Support | None
    ) -> Citation:
        source = self._sources[number]
        return Citation(
            source=source,
            marker_start=mark.start,
            marker_end=mark.end,
            answer_start=sentence[0],
            answer_end=sentence[1],
            check="span" if support else "chunk",
            support=support.score if support else None,
            char_start=source.char_start + (support.start if support else 0),
            char_end=source.char_start + support.end if support else source.char_end,
        )


class _Answer(NamedTuple):
    """The text shown so far and its sentences."""

    text: str
    sentences: Sequence[Sentence]

    def claim(self, start: int, end: int) -> str:
        """What that part of the answer says, without the markers."""
        return UNCLOSED.sub("", MARKER.sub(" ", self.text[start:end]))


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
