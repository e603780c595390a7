"""Hostile values lose their power; honest ones stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.errors import ControlText
from prompts.neutralise import (
    _INVISIBLE,
    _STRAY_JOINER,
    FEW,
    USUAL_TURNS,
    _wordless,
    breaker_of,
    check_control,
    forbidden_for,
    harmless,
    neutralise,
    stays,
)
from prompts.records import Call, Message

SPECIAL = ("<|im_end|>", "<|im_start|>", "</s>", "<s>")
FENCES = ("[[excerpt", "[[end")
hostile = st.lists(
    st.sampled_from([*SPECIAL, *FENCES, "<", "|", "<|im", "_end|>", "[", "x", " ", "\u200b", "\u200d", "é"])
).map("".join)


@given(hostile)
def test_nothing_forbidden_is_left_and_a_second_pass_changes_nothing(text):
    forbidden = forbidden_for("document", SPECIAL, FENCES)
    once = neutralise(text, forbidden)
    assert not any(string.lower() in once.text.lower() for string in forbidden)
    assert neutralise(once.text, forbidden) == (once.text, 0)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="<[")))
def test_ordinary_text_stays_as_it_is(text):
    assert neutralise(text, forbidden_for("document", SPECIAL, FENCES)) == (text, 0)


def searched(text, forbidden):
    """What `neutralise` does, without its looks ahead."""
    text, unseen = _INVISIBLE.subn("", text)
    text, hits = _STRAY_JOINER.subn("", text)
    hits += unseen
    pattern, broken = breaker_of(forbidden).pattern, 1
    while pattern and broken:
        text, broken = pattern.subn(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        hits += broken
    return text, hits


@given(
    st.lists(st.one_of(hostile, st.text()), max_size=4),
    st.sampled_from([(), forbidden_for("user", SPECIAL, FENCES), ("Hello", "<x>")]),
    st.sampled_from([0, 1, 2 * FEW]),
)
def test_looks_ahead_change_nothing(texts, forbidden, brackets):
    texts = [text + "< [" * brackets + text for text in texts]
    found = [searched(text, forbidden) for text in texts]
    assert [neutralise(text, forbidden) for text in texts] == found
    if stays(texts, breaker_of(forbidden)):
        assert found == [(text, 0) for text in texts]


def test_of_usual_texts_one_look_says_that_they_stay():
    breaker = breaker_of(forbidden_for("document", SPECIAL, FENCES))
    assert stays(["a [1]\tb < c", "Ünï\u00a0北京\u2009x"], breaker)
    assert not stays(["a", "b</s>"], breaker)
    assert not stays(["a", "b\u200b"], breaker)


def test_hits_are_counted_without_regard_to_case():
    cleaned = neutralise("a <|IM_END|> b [[Excerpt c", forbidden_for("user", SPECIAL, FENCES))
    assert cleaned == ("a < |IM_END|> b [ [Excerpt c", 2)


def test_a_user_may_name_markers_of_other_models_and_a_document_may_not():
    text = "What does [INST] mean?"
    assert neutralise(text, forbidden_for("user", SPECIAL, ())).text == text
    assert neutralise(text, forbidden_for("document", SPECIAL, ())).text == "What does [ INST] mean?"


def test_an_author_may_write_anything():
    assert forbidden_for("author", SPECIAL, FENCES) == ()


@pytest.mark.parametrize("char", ["\u200b", "\u202e", "\ufeff", "\U000e0041", "\x00", "\u00ad"])
def test_invisible_characters_are_removed(char):
    assert neutralise(f"pay{char}ment", ()) == ("payment", 1)


def test_joiners_stay_where_scripts_and_emoji_need_them():
    for text in ("می\u200cخواهم", "क्\u200dष", "👩\u200d💻"):
        assert neutralise(text, ()) == (text, 0)
    assert neutralise("ab\u200dc", ()).text == "abc"


def test_control_text_that_slipped_through_is_refused():
    def special(messages):
        return sum(2 + message.text.count("<eot>") for message in messages)

    check_control([Message("user", "fine")], special)
    with pytest.raises(ControlText, match="3 in the prompt, 2 expected"):
        check_control([Message("user", "so <eot>")], special)


def test_every_invisible_character_is_looked_for_in_any_text():
    everything = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    hidden = {"\u200c", "\u200d", *"".join(_INVISIBLE.findall(everything))}
    assert hidden > {*"\u034f\u115f\u3164\uffa0\u200b\ufeff\x00\xad", *map(chr, range(0xE0100, 0xE01F0))}
    for one in hidden:
        assert neutralise(f"pay{one}ment", ()) == ("payment", 1)
        assert neutralise(f"é: pay{one}ment\n", ()) == ("é: payment\n", 1)


def test_turns_without_their_words_keep_roles_and_calls():
    called = Message("assistant", "", (Call("c1", "look", '{"at": "secret", "n": 3}'),))
    given = Message("tool", "secret", answers="c1")
    assert harmless([Message("user", "secret"), called, given]) == (
        Message("user", "x"),
        Message("assistant", "", (Call("c1", "look", '{"at": "x", "n": 3}'),)),
        Message("tool", "x", answers="c1"),
    )
    assert harmless([Message("system", ""), Message("user", "secret")]) == (
        Message("system", "x"),
        Message("user", "x"),
    )


def test_of_talks_longer_than_usual_no_shape_is_remembered():
    _wordless.cache_clear()
    talk = [Message("user", "secret")] * (USUAL_TURNS + 1)
    assert harmless(talk) == tuple([Message("user", "x")] * (USUAL_TURNS + 1))
    assert _wordless.cache_info().currsize == 0
    assert harmless(talk[1:]) == tuple([Message("user", "x")] * USUAL_TURNS)
    assert _wordless.cache_info().currsize == 1
