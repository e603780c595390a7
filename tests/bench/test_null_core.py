"""The core without a model: every stream a token a step, no more streams than its batch, ends where asked."""

import warnings
from types import SimpleNamespace

import pytest

from bench.front.core import Core

pytestmark = pytest.mark.slow  # imports vLLM


def asked(name, tokens):
    return SimpleNamespace(
        request_id=name, prompt_token_ids=[1, 2, 3], sampling_params=SimpleNamespace(max_tokens=tokens)
    )


def test_every_stream_gets_a_token_a_step_and_who_waits_follows():
    with warnings.catch_warnings(action="ignore"):  # of what vLLM imports, not of ours
        pytest.importorskip("vllm.v1.engine")
    core = Core([7, 8, 9], batch=2)
    for name, tokens in (("a", 1), ("b", 3), ("c", 2), ("gone", 9)):
        core.add(asked(name, tokens))
    core.abort(["gone"])
    told = []
    while not core.idle:
        outputs = core.step().outputs
        assert len({output.request_id for output in outputs}) == len(outputs) <= 3
        told += [(output.request_id, output.new_token_ids, output.finished) for output in outputs]
    ends = [name for name, _, finished in told if finished]
    assert [[name for name, _, _ in told].count(name) for name in "abc"] == [1, 3, 2]
    assert sorted(ends) == ["a", "b", "c"]
    assert [ids for _, ids, _ in told] == [[[7], [8], [9]][number % 3] for number in range(6)]
