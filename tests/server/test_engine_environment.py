"""What is set for vLLM is what vLLM reads: it warns of a name that it does not know, and goes on without."""

import re
from importlib.util import find_spec
from pathlib import Path

from server.vllm_decoder.options import EngineOptions, defaults


def test_every_variable_that_is_set_for_vllm_is_one_that_it_reads(tmp_path):
    found = find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    known = set(re.findall(r'"(VLLM_\w+)"', Path(found.origin).with_name("envs.py").read_text()))
    assert len(known) > 100
    ours = {
        name
        for name in defaults(EngineOptions(model=str(tmp_path), context_tokens=64, batch=1, max_loras=1))
        if name.startswith("VLLM_")
    }
    assert "VLLM_WORKER_MULTIPROC_METHOD" in ours
    assert ours <= known
