"""How far an answer is what it should be: exact match and token F1, as SQuAD does it (arXiv 1606.05250)."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
MARKERS = re.compile(r"\[\d+\]")  # of sources: not part of what is said
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """NFKC, lower case, without source markers, punctuation and articles; single spaces."""
    plain = MARKERS.sub(" ", unicodedata.normalize("NFKC", text).lower()).translate(PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when the answer says one of the references and nothing else."""
    return float(any(normalised(answer) == normalised(one) for one in references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, against the reference that fits best."""
    return max((_f1(normalised(answer).split(), normalised(one).split()) for one in references), default=0.0)


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted))
