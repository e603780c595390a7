"""Markers: only those that name a source of the prompt are ever seen; citations say what was verified."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.citing import Citer, sentence_of, sentences
from server.links import source_list
from tests.server.samples import SOURCE

SOURCES = [SOURCE._replace(n=number, chunk_id=f"ch_{number}") for number in (1, 2, 3)]
UNUSED = SOURCE._replace(n=0, chunk_id="ch_unused")
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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("So [9[7]].", "So ."),
        ("So [[9]].", "So ."),
        ("So [[1]].", "So [1]."),
        ("So [1[9]2].", "So [1, 2]."),
        ("So [12[9]34].", "So ."),
        ("So [9,9,9,9,9,9,9,9,9,9,9].", "So ."),
        ("So [     9     ].", "So ."),
        ("So [1, 1].", "So [1]."),
        ("In [2020], [] and [ ] say [[2], x]", "In [2020], [] and [ ] say [[2], x]"),
    ],
)
def test_markers_in_markers_are_decided_as_one(said, shown):
    assert cite(said)[0] == shown


@example("[0000]", 1)
@given(st.text(alphabet="[[]]0123459, \nx.٣", max_size=60), st.integers(1, 9))
def test_whatever_a_hostile_model_says_no_marker_names_what_was_not_in_the_prompt(text, width):
    shown, citer = cite(*(text[at : at + width] for at in range(0, len(text), width)))
    for inside in re.findall(r"\[([\s,\d]*)\]", shown):
        numbers = re.findall(r"\d+", inside)  # of more than three digits none is a marker
        assert all(int(number) in (1, 2, 3) for number in numbers) or any(len(one) > 3 for one in numbers)
    named = [
        number for inside in re.findall(r"\[([\d, ]+)\]", shown) for number in re.findall(r"\d+", inside)
    ]
    assert len(citer.citations) <= len(named)


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


POLICY = SOURCE._replace(
    n=1,
    char_start=100,
    char_end=100 + 96,
    text="Refunds are paid within 30 days of the return. Shipping costs are never refunded, says the board.",
)
OTHER = SOURCE._replace(n=2, text="The office is closed on Sundays.", char_start=0, char_end=32)


def verified(text):
    citer = Citer([POLICY, OTHER])
    shown = citer.feed(text) + citer.finish()
    return shown, citer.verify(every_sentence=True)


def located(citation):
    start = citation.source.char_start
    return citation.source.text[citation.char_start - start : citation.char_end - start]


def test_a_citation_points_at_the_words_that_support_its_sentence():
    _, found = verified("According to [1], refunds are paid within 30 days.")
    (citation,) = found.citations
    assert citation.check == "span"
    assert located(citation) == "Refunds are paid within 30 days"
    assert 0.7 < citation.support < 1


def test_a_sentence_that_the_source_does_not_say_keeps_its_chunk_and_is_flagged():
    shown, found = verified("Refunds are paid within 30 days [1]. Dragons guard the vault [1].")
    good, bad = found.citations
    assert (good.check, bad.check) == ("span", "chunk")
    assert (bad.char_start, bad.char_end, bad.support) == (100, 196, None)
    assert [shown[start:end] for start, end in found.unsupported] == ["Dragons guard the vault [1]."]


def test_each_part_of_a_sentence_is_looked_up_in_the_source_that_closes_it():
    _, found = verified("Refunds are paid within 30 days [1], while the office is closed on Sundays [2].")
    assert [located(citation) for citation in found.citations] == [
        "Refunds are paid within 30 days",
        "The office is closed on Sundays",
    ]
    assert found.unsupported == ()


def test_a_sentence_without_a_marker_is_supported_by_any_source_of_the_prompt():
    shown, found = verified("The office is closed on Sundays. It is open on Mondays and Tuesdays.")
    assert [shown[start:end] for start, end in found.unsupported] == ["It is open on Mondays and Tuesdays."]
    assert found.citations == ()


def test_the_list_of_sources_cannot_be_broken_out_of():
    evil = SOURCE._replace(
        filename="a](http://evil)\n# x", page_start=None, attributes={"url": "https://h/a b)c"}
    )
    script = SOURCE._replace(n=2, file_id="file-b", attributes={"url": "javascript:alert(1)"})
    assert source_list([evil, script], "https://f/") == (
        "\n\n- \\[1\\] [a\\]\\(http://evil\\) \\# x](https://h/a%20b%29c)"
        "\n- \\[2\\] [policy.md, p. 3](https://f/v1/files/file-b/content#page=3)"
    )
    assert source_list([], "https://f") == ""


def test_a_marker_that_the_end_cut_off_is_no_number_that_the_source_must_have():
    citer = Citer(
        [SOURCE._replace(text="1 ) Refunds of any purchase take thirty days to arrive.", char_start=0)]
    )
    citer.feed("Refunds of purchases take thirty days to arrive [1] [1")
    citer.finish()
    (citation,) = citer.verify().citations
    assert citation.check == "span"
    assert citation.char_start > 0
