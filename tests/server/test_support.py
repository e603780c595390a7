"""Locating what a sentence says in a source."""

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.support import SourceText, says_something, words_of

TEXT = (
    "Seasonality is a characteristic of a time series in which the data experiences regular and predictable "
    "changes which recur every calendar year. Iron melts at 1,538 degrees Celsius and rusts in wet air. "
    "東京は日本の首都であり、人口は約1400万人である。"
)


def found(sentence):
    support = SourceText(TEXT).locate(sentence)
    return support and TEXT[support.start : support.end]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("iron melts at 1538 degrees celsius", "Iron melts at 1,538 degrees Celsius"),
        (
            "In wet air, at degrees Celsius, iron melted.",
            "Iron melts at 1,538 degrees Celsius and rusts in wet air",
        ),
        (
            "Predictable changes recurring each calendar year",
            "predictable changes which recur every calendar year",
        ),
        ("首都の東京、人口は1400万人", "首都であり、人口は約1400万人"),
        ("人口は約1400万人", "人口は約1400万人"),
    ],
)
def test_the_words_are_found_as_they_stand_or_nearly(sentence, words):
    assert found(sentence) == words


@pytest.mark.parametrize(
    "sentence",
    [
        "Iron melts at 1540 degrees Celsius.",  # a wrong number is no support, however right the rest
        "Gold is a soft metal that does not tarnish.",
        "大阪の食べ物は安い。",
        "Of it.",
        "",
    ],
)
def test_what_the_source_does_not_say_is_not_found(sentence):
    assert found(sentence) is None


def test_a_sentence_of_hardly_any_letters_says_nothing():
    assert not says_something("It.")
    assert says_something("Iron rusts.")


VOCABULARY = ["iron", "rust", "wet", "air", "melts", "regular", "at", "the", "15", "東京", "首都"]
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=14)


@given(WORDS, WORDS)
def test_a_located_span_holds_the_share_of_words_it_claims(said, source):
    """Brute force over the span's own words, and difflib for the longest run."""
    sentence, text = " ".join(said), " ".join(source)
    support = SourceText(text).locate(sentence)
    if support is None:
        return
    span = {word.form for word in words_of(text[support.start : support.end])}
    letters = [len(word.form) for word in words_of(sentence)]
    inside = [len(word.form) for word in words_of(sentence) if word.form in span]
    assert 0 < support.score <= 1
    if support.exact:
        assert sum(inside) >= support.score * sum(letters) - 1e-9
        forms = [word.form for word in words_of(sentence)], [word.form for word in words_of(text)]
        longest = SequenceMatcher(None, *forms, autojunk=False).find_longest_match()
        assert len(words_of_list(text[support.start : support.end])) <= longest.size
    assert {word.form for word in words_of(sentence) if word.number} <= span


@given(st.text(max_size=80), st.text(max_size=200))
def test_any_text_is_answered_within_the_source(sentence, text):
    support = SourceText(text).locate(sentence)
    assert support is None or 0 <= support.start < support.end <= len(text)


def words_of_list(text):
    return list(words_of(text))


def test_a_span_goes_on_with_words_that_it_met_before_as_the_sentence_does():
    source = (
        "Passed in 1996, the law of the states defined marriage and allowed refusal of those marriages "
        "granted under the laws of other states. It was later changed."
    )
    sentence = (
        "In 1996 the law of states allowed refusal of marriages granted under the laws of other states."
    )
    support = SourceText(source).locate(sentence)
    assert source[support.start : support.end].endswith("granted under the laws of other states")
