"""The real engine on a real card: sixteen bits, graphs, room for adapters."""

import asyncio
from pathlib import Path

import pytest

from server.adapters.base_model import read_base
from server.models import locate
from server.records import Limits
from server.settings import load_settings
from server.vllm_decoder import EngineOptions, VllmDecoder


def card() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not card(), reason="no card"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("default"),  # what the host's torch calls deprecated is not ours
]


@pytest.fixture(scope="module")
def model() -> Path:
    return Path(locate("smollm2-135m-instruct", load_settings().paths.cache / "models"))


@pytest.fixture(scope="module")
def said(model, tmp_path_factory):
    """What a decoder with room for everything says, and of itself."""
    options = EngineOptions(
        model=str(model),
        context_tokens=512,
        batch=16,
        gpu_memory_share=0.2,
        kv_cache_bytes=2**30,
        max_loras=2,
        soft_rows=32,
        prefix_rows=32,
        rows_cache=str(tmp_path_factory.mktemp("rows")),
    )

    async def ask():
        decoder = await VllmDecoder.open(options)  # proves LoRA on the card
        try:
            prompt = decoder.tokenizer.encode("The capital of France is")
            limits = Limits(max_tokens=8, temperature=0.0, ignore_eos=True)
            pieces = [piece async for piece in decoder.decode(prompt, limits, request_id="one")]
            again = [piece async for piece in decoder.decode(prompt, limits, request_id="two")]
            scores = await decoder.first_tokens(prompt, decoder.tokenizer.encode(" Paris London"))
            schema = Limits(max_tokens=40, temperature=0.0, schema={"type": "boolean"})
            shaped = [piece async for piece in decoder.decode(prompt, schema, request_id="three")]
            return decoder.profile, decoder.adapters.kinds, pieces, again, scores, shaped
        finally:
            await decoder.close()

    return asyncio.run(ask())


def test_a_float32_model_is_served_in_sixteen_bits_on_the_card(said):
    profile = said[0]
    assert profile.dtype == "bfloat16"
    assert not profile.flags["eager"]
    assert profile.flags["block"] == 16


def test_a_greedy_answer_is_the_same_again(said):
    _, _, pieces, again, *_ = said
    assert "".join(piece.text for piece in pieces) == "".join(piece.text for piece in again) != ""
    assert sum(len(piece.tokens) for piece in pieces) == 8


def test_there_is_room_for_adapters(said):
    assert said[1] >= {"lora", "soft-prompt", "prefix"}


def test_candidates_are_scored(said):
    paris, london = said[4]
    assert london < paris < 0


def test_a_schema_binds_the_answer(said):
    assert "".join(piece.text for piece in said[5]).strip() in ("true", "false")


def test_the_shapes_of_the_model_are_known(model):
    assert read_base(model).layers == 30
