"""Prompts of an exact length, over a tokenizer that counts characters."""

import pytest

from bench.workloads import chat_prompts
from server.echo_decoder import EchoTokenizer

TOKENIZER = EchoTokenizer()


def test_prompts_have_exactly_the_length_asked_for():
    prompts = chat_prompts(TOKENIZER, seed=3, count=20, tokens=256)
    assert {len(prompt.ids) for prompt in prompts} == {256}
    assert len({prompt.ids for prompt in prompts}) == 20


def test_a_seed_draws_the_same_prompts_again():
    assert chat_prompts(TOKENIZER, seed=3, count=3, tokens=200) == chat_prompts(
        TOKENIZER, seed=3, count=3, tokens=200
    )


def test_a_length_the_template_alone_exceeds_is_refused():
    with pytest.raises(ValueError, match="exactly 4 tokens"):
        chat_prompts(TOKENIZER, seed=3, count=1, tokens=4)
