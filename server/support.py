"""Where a source says what a sentence says: first word for word, then nearly.

Words are weighed by their letters, so that a match of function words counts for little in any language that
spaces its words. Scripts that do not are compared by overlapping pairs of characters. This finds wording, not
truth: a sentence that turns the source's meaning round with one short word is still located.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel, JaroWinkler

from indexer.words import CJK

# Thresholds from human answers of CLAP NQ: docs/decisions/0132-server-supporting-spans.md
EXACT = 0.5  # share of the sentence's letters that one run of words must cover
NEARLY = 0.65  # share that a passage of twice the sentence's length must cover
ALIKE = 0.87  # Jaro-Winkler: `sleeps` and `sleeping` are one word, `there` and `where` are not
LETTERS = 4  # a sentence with fewer says nothing that could be looked up
LONGEST_WORD = 12  # letters that count: a chemical's name is not five words
SHARED = 0.7  # of the letters of two such words: `companies` and `compensation` begin alike and share 0.57
INFLECTED = 5  # letters; shorter words are compared exactly
WIDTH = 2  # times the sentence's words
STRAYING = 0.25  # letters that a letter of other words between them costs

_WORDS = re.compile(rf"(\d+(?:[.,]\d+)*)|([{CJK}]+)|([^\W\d_{CJK}]+\d*)")


class Word(NamedTuple):
    start: int  # code points
    end: int
    form: str  # folded
    number: bool = False


class Support(NamedTuple):
    """A half-open span of the source's text, and the share of the sentence's letters it accounts for."""

    start: int
    end: int
    score: float
    exact: bool


class _Part(NamedTuple):
    first: int  # words
    last: int
    letters: int


class SourceText:
    """A source, read once for all the sentences that are looked up in it."""

    def __init__(self, text: str) -> None:
        self._words = list(words_of(text))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for at, word in enumerate(self._words):
            places.setdefault(word.form, []).append(at)
        return places

    @cached_property
    def _inflected(self) -> list[str]:
        return [form for form in self._places if _inflects(form)]

    def locate(self, sentence: str) -> Support | None:
        """The words of the source that support the sentence best, or None below the thresholds."""
        said = list(words_of(sentence))
        if not self._words or sum(map(_letters, said)) < LETTERS:
            return None
        return self._run(said) or self._passage(said)

    def _run(self, said: Sequence[Word]) -> Support | None:
        """The longest run of words that both have, as difflib finds it, but by letters."""
        before = [0, *accumulate(map(_letters, said))]
        heaviest, found = 0, (0, 0)  # letters, (end in the source, words)
        running: dict[int, int] = {}  # last word in the source → words of the run that ends there
        for at, word in enumerate(said):
            longer = {}
            for place in self._places.get(word.form, ()):
                length = longer[place] = running.get(place - 1, 0) + 1
                weight = before[at + 1] - before[at + 1 - length]
                if weight > heaviest:
                    heaviest, found = weight, (place + 1, length)
            running = longer
        stop, length = found
        run = self._words[stop - length : stop]
        score = heaviest / before[-1]
        if score < EXACT or heaviest < LETTERS or not _numbers(said) <= _numbers(run):
            return None
        return Support(run[0].start, run[-1].end, score, True)

    def _passage(self, said: Sequence[Word]) -> Support | None:
        """The window with most of the sentence's letters, cut to what counts of it."""
        weights = {word.form: _letters(word) for word in said}
        meant = self._meanings([form for form in weights if _inflects(form)])
        forms = [word.form if word.form in weights else meant.get(word.form) for word in self._words]
        width = WIDTH * len(said)
        inside: Counter[str] = Counter()
        weight, heaviest, stop = 0, 0, 0
        for at, form in enumerate(forms):
            if form is not None:
                inside[form] += 1
                weight += weights[form] if inside[form] == 1 else 0
            gone = forms[at - width] if at >= width else None
            if gone is not None:
                inside[gone] -= 1
                weight -= weights[gone] if not inside[gone] else 0
            if weight > heaviest:
                heaviest, stop = weight, at + 1
        enough = NEARLY * sum(weights.values())
        if heaviest < enough:
            return None
        part = self._tightened(forms, weights, range(max(0, stop - width), stop), enough, _numbers(said))
        if part is None:
            return None
        score = part.letters / sum(weights.values())
        first, last = _continued(forms, part, [word.form for word in said])
        return Support(self._words[first].start, self._words[last].end, score, False)

    def _tightened(
        self,
        forms: Sequence[str | None],
        weights: Mapping[str, int],
        window: range,
        enough: float,
        numbers: set[str],
    ) -> "_Part | None":
        """The part of a window that says enough, with all the numbers, and strays least."""
        best, found = -math.inf, None
        for first in window:
            if forms[first] is None:
                continue
            letters, strayed = 0, 0
            met: set[str] = set()
            for last in range(first, window.stop):
                form = forms[last]
                if form is None:
                    strayed += _letters(self._words[last])
                elif form not in met:
                    met.add(form)
                    letters += weights[form]
                    net = letters - STRAYING * strayed
                    if letters >= enough and net > best and numbers <= met:
                        best, found = net, _Part(first, last, letters)
        return found

    def _meanings(self, said: Sequence[str]) -> dict[str, str]:
        """Words of the source → the word of the sentence that they are a form of."""
        if not said or not self._inflected:
            return {}
        alike = process.cdist(
            self._inflected, said, scorer=JaroWinkler.similarity, score_cutoff=ALIKE, dtype=np.float32
        )
        alike *= process.cdist(
            self._inflected, said, scorer=Indel.normalized_similarity, score_cutoff=SHARED, dtype=np.float32
        )
        best = alike.argmax(axis=1)
        return {
            form: said[best[row]] for row, form in enumerate(self._inflected) if alike[row, best[row]] > 0
        }


def _continued(forms: Sequence[str | None], part: _Part, said: Sequence[str]) -> tuple[int, int]:
    """First and last word, with what goes on before and behind as it does in the sentence.

    Words that were met already add no letters, so the part may end within `laws of other | states`.
    """
    together = set(pairwise(said))
    first, last = part.first, part.last
    while first > 0 and (forms[first - 1], forms[first]) in together:
        first -= 1
    while last + 1 < len(forms) and (forms[last], forms[last + 1]) in together:
        last += 1
    return first, last


def says_something(sentence: str) -> bool:
    """Whether there is enough of it to look up."""
    return sum(map(_letters, words_of(sentence))) >= LETTERS


def words_of(text: str) -> Iterable[Word]:
    """Words with their places; a run of characters without spaces gives its overlapping pairs."""
    for match in _WORDS.finditer(text):
        number, run, word = match.groups()
        start = match.start()
        if word:
            yield Word(start, match.end(), _folded(word))
        elif number:
            yield Word(start, match.end(), _folded(number).replace(",", ""), True)
        else:
            for at in range(max(len(run) - 1, 1)):
                pair = run[at : at + 2]
                yield Word(start + at, start + at + len(pair), _folded(pair))


def _numbers(words: Iterable[Word]) -> set[str]:
    """A number that is not there is the commonest lie, so numbers must all be found."""
    return {word.form for word in words if word.number}


def _letters(word: Word) -> int:
    return min(len(word.form), LONGEST_WORD)


def _inflects(form: str) -> bool:
    return len(form) >= INFLECTED and form.isalpha()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()
