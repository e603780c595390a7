"""Character runs that a question shares with texts, against counting them one by one."""

import math
import re
import unicodedata
from collections import Counter

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.closeness import Met, Question, closeness
from indexer.words import CJK

WORDS = re.compile(rf"([{CJK}]+)|([^\W_{CJK}]+)")


def runs(text: str) -> Counter[str]:
    folded = "".join(letter.lower()[0] for letter in unicodedata.normalize("NFKC", text))
    pieces = [piece for han, word in WORDS.findall(folded) for piece in ([word] if word else han)]
    line = " ".join(["", *pieces, ""]) if pieces else " "
    return Counter(line[at : at + 4] for at in range(len(line) - 3))


def counted(query: str, texts: list[str]) -> list[float]:
    wanted, found = runs(query), [runs(text) for text in texts]
    if not wanted:
        return [0.0] * len(texts)
    lengths = [max(1, one.total()) for one in found]
    mean = sum(lengths) / len(lengths)
    shares = [0.0] * len(texts)
    total = 0.0
    for run, times in wanted.items():
        having = sum(run in one for one in found)
        weight = times * math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        total += weight
        for at, one in enumerate(found):
            saturation = 1.2 * (0.25 + 0.75 * lengths[at] / mean)
            shares[at] += weight * one[run] / (one[run] + saturation)
    return [share / total for share in shares]


letters = st.text("ab cdéＡ…½İ.Жи-жиـالب东京カ_1𠀀ﬁ\n\0Σ\u0301\u0306", max_size=30)


@settings(deadline=None)  # the first call makes the table of letters
@example("½ﬁ\u0301", ["ﬁ\u0301", "½"])
@example("Ａ\u0301b", ["Áb", "Ａb"])
@given(query=letters, texts=st.lists(letters, min_size=1, max_size=6))
def test_the_share_is_that_of_counting_runs_one_by_one(query, texts):
    found = closeness(query, texts)
    assert np.allclose(found, counted(query, texts), atol=1e-9)
    assert ((found >= 0) & (found <= 1)).all()


@settings(deadline=None)
@given(query=letters, texts=st.lists(letters, min_size=1, max_size=6))
def test_texts_held_as_bytes_meet_what_texts_spelled_out_meet(query, texts):
    question = Question(query)
    short, long = question.met(texts), question.spelled_out(texts)
    assert (short.counts == long.counts).all()
    assert (short.lengths == long.lengths).all()


def test_a_question_with_more_letters_than_bytes_is_held_all_the_same():
    many = " and ".join(letter for letter in map(chr, range(0xE0, 0x600)) if letter.islower())
    assert len(set(many)) > 256
    texts = [many, "and more", many[400:900]]
    assert np.allclose(closeness(many, texts), counted(many, texts), atol=1e-9)


@settings(deadline=None)
@given(query=letters, texts=st.lists(letters, min_size=1, max_size=6), cut=st.integers(0, 6))
def test_texts_read_in_two_goes_are_as_close_as_in_one(query, texts, cut):
    question = Question(query)
    goes = [question.met(texts[:cut]), question.met(texts[cut:])]
    met = Met(*(np.concatenate(both) for both in zip(*goes, strict=True)))
    assert question.closeness(met).tolist() == closeness(query, texts).tolist()


def test_an_inflected_form_is_close_and_an_unrelated_word_is_not():
    found = closeness("столицы государства", ["столица и государство", "погода на завтра", "о столице"])
    assert found[0] > found[2] > found[1]


def test_words_in_the_order_of_the_question_are_closer():
    one, other = closeness("red house in town", ["a red house in town here", "a town in house red here"])
    assert one > other


def test_without_a_question_or_texts_there_is_nothing():
    assert closeness("?!", ["text"]).tolist() == [0.0]
    assert closeness("question", []).tolist() == []
