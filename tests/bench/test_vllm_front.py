"""vLLM's front end as an arm: it gives the same answers, so its cost may be compared."""

import asyncio

import pytest

from bench.goals.per_token import REPLY, Load
from bench.vllm_front import vllm_front

pytest.importorskip("vllm")


@pytest.mark.slow
def test_vllm_streams_what_the_null_engine_says(tmp_path):
    with vllm_front(REPLY, 0.0, tmp_path) as served:
        load = Load(served, tokens=100)
        cost = asyncio.run(load.sample(3))
    assert cost > 0
    assert load.wrong == []
    assert load.told == 3
