"""The ids of the served model's tokenizer: as transformers gives them, and as they were asked for."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.records import Message
from server.models import locate
from server.settings import load_settings
from server.vllm_decoder.tokenizer import PROBE, VllmTokenizer

said = st.text(max_size=200) | st.lists(
    st.sampled_from(
        ["<|im_start|>", "<|im_end|>", "system\n", " the", "北京", "é", "\u0301", "\t", "\n\n", "  ", "🦆"]
    ),
    max_size=30,
).map("".join)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        locate("smollm2-135m-instruct", load_settings().paths.cache / "models")
    )


@pytest.fixture(scope="module")
def ours(tokenizer):
    return VllmTokenizer(tokenizer)


@given(text=said)
def test_a_text_has_the_ids_that_transformers_gives_it(tokenizer, ours, text):
    assert ours.encode(text) == tuple(tokenizer.encode(text))


@given(system=said, question=said)
def test_a_chat_has_the_ids_that_transformers_gives_it(tokenizer, ours, system, question):
    turns = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    theirs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert ours.chat([Message("system", system), Message("user", question)]) == tuple(theirs)


@given(question=said, thinking=st.sampled_from([None, True, False]))
def test_a_chat_with_functions_too(tokenizer, ours, question, thinking):
    turns = [{"role": "user", "content": question}]
    options = {} if thinking is None else {"enable_thinking": thinking}
    theirs = tokenizer.apply_chat_template(
        turns, tools=[PROBE.shown()], add_generation_prompt=True, tokenize=False, **options
    )
    assert ours._text(turns, [PROBE.shown()], options) == theirs


@given(system=said, question=said, other=said)
def test_pieces_that_are_known_already_change_no_id(ours, system, question, other):
    known = {}
    ours.chat([Message("system", system), Message("user", other)], known=known)

    messages = [Message("system", system), Message("user", question)]
    assert ours.chat(messages, known=known) == ours.chat(messages)


def test_what_begins_a_conversation_is_read_once(ours):
    known = {}
    ours.chat([Message("system", "Be brief."), Message("user", "ducks")], known=known)
    before = set(known)
    ours.chat([Message("system", "Be brief."), Message("user", "geese")], known=known)
    assert set(known) - before == {"user\ngeese"}


def test_a_tokenizer_whose_added_tokens_take_blanks_along_is_read_whole(tokenizer):
    from transformers import AddedToken

    odd = copy.deepcopy(tokenizer)
    odd.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    messages = [Message("user", "a <mask> b")]
    known = {}
    assert VllmTokenizer(odd).chat(messages, known=known) == VllmTokenizer(odd).chat(messages)
    assert known == {}


def test_a_tokenizer_without_a_template_says_so_itself(tokenizer):
    class Silent(type(tokenizer)):
        """Whose template nobody knows."""

        def get_chat_template(self, *_):
            raise ValueError("there is none")

    folder = locate("smollm2-135m-instruct", load_settings().paths.cache / "models")
    with pytest.raises(ValueError, match="there is none"):
        VllmTokenizer(Silent.from_pretrained(folder)).chat([Message("user", "ducks")])


def test_a_tokenizer_whose_engine_says_something_else_is_asked_itself():
    from transformers import AutoTokenizer

    folder = locate("smollm2-135m-instruct", load_settings().paths.cache / "models")
    plain = AutoTokenizer.from_pretrained(folder)

    class Prefixed(type(plain)):
        """Puts a token before everything, in Python, where the engine knows nothing of it."""

        def __call__(self, *args, **kwargs):
            found = super().__call__(*args, **kwargs)
            found["input_ids"] = [7, *found["input_ids"]]
            return found

        def encode(self, text, **kwargs):
            return [7, *super().encode(text, **kwargs)]

    odd = Prefixed.from_pretrained(folder)
    assert VllmTokenizer(odd).encode("ducks") == tuple(odd.encode("ducks")) == (7, *plain.encode("ducks"))


def test_cutting_and_padding_that_others_set_do_not_reach_it(tokenizer, ours):
    long = "a duck " * 600
    tokenizer(long, truncation=True, max_length=5)
    assert ours.encode(long) == tuple(tokenizer.encode(long, truncation=False))
    assert len(ours.encode(long)) > 1000
