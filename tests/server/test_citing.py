"""Markers: only those that name a source of the prompt are ever seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.citing import Citer, sentence_of, sentences
from tests.server.samples import SOURCE

SOURCES = [replace(SOURCE, n=number, chunk_id=f"ch_{number}") for number in (1, 2, 3)]
UNUSED = replace(SOURCE, n=0, chunk_id="ch_unused")
SCRAPS = st.sampled_from(
    ["[1]", "[2, 3]", "[9]", "[1,9]", "[", "]", "[[1]]", "[x]", "a", ". ", "\n", "[ 2 ]", "[12", "3]"]
)


def cite(*pieces: str) -> tuple[str, Citer]:
    citer = Citer([*SOURCES, UNUSED])
    return "".join([citer.feed(piece) for piece in pieces] + [citer.finish()]), citer


def test_a_marker_split_anywhere_is_one_citation():
    for cut in range(1, len("Paris [1, 2] is")):
        text = "Paris [1, 2] is"
        shown, citer = cite(text[:cut], text[cut:])
        assert shown == text
        assert [citation.source.n for citation in citer.citations] == [1, 2]


def test_wrong_numbers_leave_a_mixed_marker_and_right_ones_stay():
    shown, citer = cite("So [1, 9] and [7][8].")
    assert shown == "So [1] and ."
    assert citer.dropped == 3


def test_ordinary_brackets_pass():
    text = "a[i] = [x, y] and [see below]"
    assert cite(text)[0] == text


def test_text_is_held_back_only_while_it_may_become_a_marker():
    citer = Citer(SOURCES)
    assert citer.feed("yes [1") == "yes "
    assert citer.feed("x] no") == "[1x] no"


@given(st.lists(SCRAPS, max_size=12), st.integers(1, 7))
def test_however_the_text_is_split_the_result_is_the_same(scraps, width):
    text = "".join(scraps)
    whole, one = cite(text)
    pieces = [text[start : start + width] for start in range(0, len(text), width)]
    split, many = cite(*pieces)
    assert split == whole
    assert many.citations == one.citations
    assert many.dropped == one.dropped


@given(st.lists(SCRAPS, max_size=12))
def test_every_citation_points_at_a_shown_marker_of_a_used_source(scraps):
    shown, citer = cite("".join(scraps))
    for citation in citer.citations:
        marker = shown[citation.marker_start : citation.marker_end]
        assert marker.startswith("[")
        assert marker.endswith("]")
        assert str(citation.source.n) in marker
        assert citation.source.n in (1, 2, 3)
        assert 0 <= citation.answer_start <= citation.answer_end <= len(shown)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Cats sleep. Dogs bark [1].", "Dogs bark [1]."),
        ("Cats sleep. [1] Dogs", "Cats sleep."),
        ("Cats sleep [2][1]", "Cats sleep"),
        ("Title\nDogs bark loudly [1]", "Dogs bark loudly"),
        ("猫は寝る。犬は吠える[1]", "犬は吠える"),
        ("猫は寝る。[1]犬は吠える", "猫は寝る。"),
        ("Cats sleep. According to [2][1], dogs bark. So", "According to [2][1], dogs bark."),
        ("As [1] says, dogs bark.\nNext", "As [1] says, dogs bark."),
        ("[1] dogs bark", "[1] dogs bark"),
        ("Dogs bark. [1] Cats", "Dogs bark."),
    ],
)
def test_a_marker_belongs_to_its_sentence(text, sentence):
    start, end = sentence_of(sentences(text), text.rindex("[1]"))
    assert text[start:end] == sentence
