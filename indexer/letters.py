"""Texts as arrays of folded characters, for comparing them run by run.

Folded: lower case and the compatibility form, each character alone, since NFKC over all of a Chinese text
takes longer than a search; what is in no word becomes a space.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from operator import eq
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.words import CJK

LONGEST = 4096  # characters of a text that are read
SPACE, END = 32, 0
_PLAIN = 0x20000  # characters from here on are Han, or none
_UNITS = 0x10000  # of UTF-16
_WORD, _HAN, _LONG = 1, 2, 3  # long: compatibility forms of several letters, as ligatures are
GAP, _OTHER, _FIRST, _NEVER = 1, 2, 3, 255  # bytes of an `Alphabet`: its letters are from _FIRST on
_JAMO = range(0x1100, 0x1200)  # parts of Hangul syllables

Codes = NDArray[np.uint32 | np.uint8]
Code = TypeVar("Code", bound=np.uint32 | np.uint8)


class _Letters(NamedTuple):
    """What becomes of each character below `_PLAIN`; arrays by code point."""

    folded: Codes  # lower case, compatibility form; a space for what is in no word
    plain: bytes  # the same of those below 128, for `bytes.translate`
    kind: NDArray[np.uint8]  # 0 between words, _WORD, _HAN for scripts without spaces, or _LONG
    compatible: NDArray[np.bool_]  # whose compatibility form is another one
    marks: NDArray[np.bool_]  # that may combine with what stands before them


def spelled(texts: Sequence[str]) -> Codes:
    """Code points, folded; one space between words and around each Han character; a zero ends a text."""
    line = lined(texts)
    letters = _letters()
    if line.isascii():
        codes: Codes = np.frombuffer(line.encode().translate(letters.plain), dtype=np.uint8)
    else:
        line = unicodedata.normalize("NFC", line)
        codes = _codes(line)
        low = np.minimum(codes, _PLAIN - 1)
        if (letters.compatible[low[:-1]] & letters.marks[low[1:]]).any():  # alone they would not be joined
            line = unicodedata.normalize("NFKC", line)
            codes = _codes(line)
            low = np.minimum(codes, _PLAIN - 1)
        kind = letters.kind[low]
        if (kind == _LONG).any():
            for letter in {chr(code) for code in np.unique(codes[kind == _LONG])}:
                line = line.replace(letter, unicodedata.normalize("NFKC", letter))
            codes = _codes(line)
            low = np.minimum(codes, _PLAIN - 1)
            kind = letters.kind[low]
        codes = np.where(codes < _PLAIN, letters.folded[low], codes)
        han = kind == _HAN
        if han.any():
            room = np.where(han, 3, 1)
            wide = np.full(room.sum(), SPACE, dtype=np.uint32)
            wide[np.cumsum(room) - room + han] = codes
            codes = wide
    return without_gaps(codes, SPACE)


def lined(texts: Sequence[str]) -> str:
    """The texts one after the other: a space around each, a zero at its end and nowhere else."""
    return "".join([f" {text[:LONGEST]} \0" if "\0" not in text else _without_ends(text) for text in texts])


def without_gaps(codes: NDArray[Code], space: int) -> NDArray[Code]:
    """One space where there are several."""
    gap = codes == space
    gap[1:] &= gap[:-1]
    gap[:1] = False
    kept: NDArray[Code] = codes[~gap]
    return kept


class Alphabet:
    """A question's letters, each a byte of its own, and one byte for all letters that are not in it.

    Texts need no more to be held against the question, and bytes are held quickly. Texts with what is not
    one letter for one character (Han, ligatures, marks that combine) cannot be spelled so.
    """

    def __init__(self, codes: Codes) -> None:
        """`codes` are the question's, spelled. Raises `ValueError` when these letters cannot be bytes."""
        self._letters = np.unique(codes[(codes != SPACE) & (codes != END)])
        forms = _forms()
        starts = np.searchsorted(forms.folded, self._letters).tolist()
        stops = np.searchsorted(forms.folded, self._letters, "right").tolist()
        if len(starts) > _NEVER - _FIRST or any(map(eq, starts, stops)):
            raise ValueError("more letters than a byte can number, or such as texts cannot be spelled with")
        self._bytes = forms.bytes.copy()
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True), _FIRST):
            self._bytes[forms.units[start:stop]] = number
        self._plain = self._bytes[:128].tobytes() + bytes(128)

    def of(self, codes: Codes) -> NDArray[np.uint8]:
        """Spelled codes of the question, without ends, as bytes."""
        numbers = np.searchsorted(self._letters, codes) + _FIRST
        return np.where(codes == SPACE, GAP, numbers).astype(np.uint8)

    def spelled(self, texts: Sequence[str]) -> tuple[NDArray[np.uint8], list[int]]:
        """The texts as bytes, one `GAP` between words, a zero after each; and which of them are left out.

        Left out are those that cannot be spelled so.
        """
        line = lined(texts)
        if line.isascii():
            return without_gaps(np.frombuffer(line.encode().translate(self._plain), dtype=np.uint8), GAP), []
        units = np.frombuffer(line.encode("utf-16-le", "surrogatepass"), dtype=np.uint16)
        codes = self._bytes.take(units, mode="clip")  # all are inside: that need not be asked first
        never = codes == _NEVER
        if not never.any():
            return without_gaps(codes, GAP), []
        ends = np.flatnonzero(codes == END)
        odd = np.logical_or.reduceat(never, [0, *(ends[:-1] + 1)])
        codes = codes[~np.repeat(odd, np.diff(ends, prepend=-1))]
        return without_gaps(codes, GAP), np.flatnonzero(odd).tolist()


def _without_ends(text: str) -> str:
    return f" {text[:LONGEST]} ".replace("\0", " ") + "\0"


def _codes(text: str) -> Codes:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@cache
def _letters() -> _Letters:
    forms = [unicodedata.normalize("NFKC", chr(code)) for code in range(_PLAIN)]
    words = np.array([form[0].isalnum() for form in forms])
    first = np.array([ord(form[0].lower()[0]) for form in forms], dtype=np.uint32)
    long = np.array([len(form) > 1 and any(map(str.isalnum, form)) for form in forms])
    han = re.compile(f"[{CJK}]").match
    kind = words.astype(np.uint8)
    kind[[code for code, form in enumerate(forms) if words[code] and han(form)]] = _HAN
    kind[long] = _LONG
    kind[-1] = _HAN  # the last one is no character: it stands for all beyond
    folded = np.where(words, first, np.uint32(SPACE))
    folded[END] = END
    compatible = np.array([form != chr(code) for code, form in enumerate(forms)])
    marks = np.array([unicodedata.combining(chr(code)) > 0 for code in range(_PLAIN)])
    plain = bytes(folded[:128].astype(np.uint8)) + bytes(128)
    return _Letters(folded, plain, kind, compatible, marks)


class _Forms(NamedTuple):
    """What an `Alphabet` starts from, by unit of UTF-16."""

    bytes: NDArray[np.uint8]  # of each unit, as no letter of any question
    folded: Codes  # what units fold to that are letters, sorted
    units: NDArray[np.intp]  # and these units


@cache
def _forms() -> _Forms:
    letters = _letters()
    folded, kind = letters.folded[:_UNITS], letters.kind[:_UNITS]
    found = np.full(_UNITS, _OTHER, dtype=np.uint8)
    found[folded == SPACE] = GAP
    found[END] = END
    never = kind > _WORD
    never[[code for code in range(_UNITS) if _combines(chr(code))]] = True
    never[0xD800:0xE000] = True  # halves of a character
    found[never] = _NEVER
    units = np.flatnonzero(found == _OTHER)
    units = units[np.argsort(folded[units], kind="stable")]
    return _Forms(found, folded[units], units)


def _combines(letter: str) -> bool:
    """Whether NFC may make something else of it, alone or after another."""
    code = ord(letter)
    if code < 0x300:  # Latin letters are as they are
        return False
    mark = unicodedata.category(letter).startswith("M") or code in _JAMO
    return mark or not unicodedata.is_normalized("NFC", letter)
