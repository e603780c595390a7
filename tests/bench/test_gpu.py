"""What the goals for a card are made of, without one."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.client import chat
from bench.crowd import crowd
from bench.gpu.lora import LINEAR, RANK, write_loras
from bench.gpu.prefix import _shared
from bench.gpu.shapes import sayable, shapes, write_model
from bench.hf_answers import Said
from bench.machine import busy_cores, cores
from bench.served import parted
from bench.servers import echo_server
from server.adapters.base_model import read_base
from server.models import locate
from server.settings import load_settings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from pathlib import Path

    tokenizer = Path(locate("smollm2-135m-instruct", load_settings().paths.cache / "models"))
    return write_model("tiny", tokenizer, tmp_path_factory.mktemp("shape") / "tiny")


def test_a_shape_is_a_model_that_opens_and_says_plain_text(tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(str(tiny), local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(str(tiny), local_files_only=True)
    ids = tokenizer("The way to the station", return_tensors="pt").input_ids
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=-1
    )[0, ids.shape[1] :].tolist()
    assert set(said) <= set(sayable(tiny, 49152))
    assert all(tokenizer.decode([token]).isprintable() for token in said)


def test_every_shape_is_a_whole_config():
    from transformers import LlamaConfig

    from bench.gpu.shapes import SHAPES

    assert {"1b", "8b", "tiny"} <= set(shapes())
    for shape in shapes():
        config = LlamaConfig(**json.loads((SHAPES / f"{shape}.json").read_text()))
        assert config.num_attention_heads % config.num_key_value_heads == 0


def test_loras_cover_every_linear_layer(tiny, tmp_path):
    from safetensors import safe_open

    write_loras(tiny, tmp_path, ["one", "two"])
    layers = read_base(tiny).layers
    with safe_open(str(tmp_path / "two" / "adapter_model.safetensors"), framework="np") as tensors:
        assert len(list(tensors.keys())) == 2 * layers * len(LINEAR)
    assert json.loads((tmp_path / "one" / "adapter_config.json").read_text())["r"] == RANK


def test_a_crowd_brings_answers_in_the_order_of_the_requests():
    requests = [chat("echo", f"word {number % 3}", 5 + number) for number in range(7)]
    with (
        echo_server(reply="one two three four five six ", interval_seconds=0.0, running=8) as served,
        crowd(3) as clients,
    ):
        sent = asyncio.run(clients.send(served.port, requests, 4))
        alone = asyncio.run(clients.send(served.port, requests[:1], 1))
    assert [answer.tokens for answer in sent.answers] == [5 + number for number in range(7)]
    assert not any(answer.problem for answer in sent.answers)
    prompts = [answer.prompt_sha256 for answer in sent.answers]
    assert prompts[:3] == prompts[3:6]
    assert len(set(prompts)) == 3
    assert alone.answers[0].prompt_sha256 == prompts[0]
    assert all(answer.asked < answer.first <= answer.ended for answer in sent.answers)


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_what_two_prompts_share_is_their_longest_common_beginning(both, left, right):
    one, other = tuple(both + left), tuple(both + right)
    shared = _shared(one, other)
    assert shared >= len(both)
    assert one[:shared] == other[:shared]
    assert one[: shared + 1] != other[: shared + 1] or shared == min(len(one), len(other))


def _said(tokens, logprobs):
    return Said(tuple(tokens), tuple(logprobs), tuple((logprob, logprob - 0.1) for logprob in logprobs))


def test_answers_may_part_only_where_two_tokens_are_near():
    want = [_said("ab", (-1.0, -1.0))]
    near = [(0, _said("ac", (-1.02, -1.05)))]
    assert parted(near, want, 0.2) == (pytest.approx(0.05), 0, 1)
    assert parted(near, want, 0.06)[2] == 0  # the reference tells the two tokens further apart
    assert parted([(0, want[0])], want, 0.2) == (0.0, 1, 0)


def test_after_the_first_other_token_nothing_is_compared():
    want = [_said("abc", (-1.0, -1.0, -1.0))]
    assert parted([(0, _said("axc", (-1.0, -1.5, -9.0)))], want, 1.0) == (0.5, 0, 1)


def test_busy_cores_are_some_of_the_cores():
    assert 0 <= busy_cores(0.05) <= 1.01 * max(cores(), __import__("os").cpu_count())
