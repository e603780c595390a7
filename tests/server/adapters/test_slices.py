"""A LoRA loaded in slices is vLLM's own load bit for bit: vLLM's real manager over a small random model.

Between any two slices a step of other requests may need the slots, and a load may be given up after any.
"""

import asyncio
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.adapters.records import Base
from server.vllm_decoder import slices
from server.vllm_decoder.pacing import LoraLoading
from tests.server.adapters.making import LORA, lora_tensors, write_peft

# vLLM and what it imports warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")
SLOTS, IN_MEMORY, RANK = 2, 3, 8
SHAPES = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (16, 32),
    "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (48, 32),
    "mlp.up_proj": (48, 32),
    "mlp.down_proj": (32, 48),
}
NEW = 9


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    """As the engine's worker has it, with room for two LoRAs in a step and three in memory."""
    pytest.importorskip("vllm")
    import torch
    from transformers import LlamaConfig
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state as ranks
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
    from vllm.model_executor.models.llama import LlamaForCausalLM

    environment = dict(os.environ)  # which vLLM writes to
    folder = tmp_path_factory.mktemp("slices")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, architectures=["LlamaForCausalLM"], **sizes
    )
    config.save_pretrained(folder)
    engine = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=64,
        enable_lora=True,
        max_loras=SLOTS,
        max_cpu_loras=IN_MEMORY,
        max_lora_rank=RANK,
        enforce_eager=True,
    ).create_engine_config()
    with set_current_vllm_config(engine):
        ranks.init_distributed_environment(1, 0, f"file://{folder}/rendezvous", 0, "gloo")
        ranks.ensure_model_parallel_initialized(1, 1)
        model = LlamaForCausalLM(vllm_config=engine)
        found = LRUCacheWorkerLoRAManager(engine, torch.device("cpu"), model.embedding_modules)
        found.create_lora_manager(model, engine)
    yield found
    ranks.destroy_model_parallel()
    ranks.destroy_distributed_environment()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("loras")


def write(folder, names, *, seed, rank, **config):
    """A LoRA on these modules of both layers; written once."""
    if not folder.exists():
        shapes = {f"model.layers.{n}.{name}.weight": SHAPES[name] for n in range(2) for name in names}
        base = Base(name="t", digest="", hidden=32, layers=2, kv_heads=2, head_dim=8, shapes=shapes)
        modules = sorted({name.rpartition(".")[2] for name in names})
        said = LORA | {"r": rank, "lora_alpha": 12, "target_modules": modules} | config
        write_peft(folder, lora_tensors(seed, rank, base), said)
    return folder


def request(number, folder):
    from vllm.lora.request import LoRARequest

    return LoRARequest(f"lora-{number}", number, str(folder))


def stacks(manager):
    """Every tensor that slots index."""
    for module in manager._adapter_manager.modules.values():
        for held in (module.lora_a_stacked, module.lora_b_stacked):
            yield from held if isinstance(held, tuple) else (held,)


def written(manager, number):
    """Every value of the adapter's slot, and None where it has no slot."""
    slots = manager._adapter_manager.lora_index_to_id
    if number not in slots:
        return None
    return np.concatenate([stack[slots.index(number)].numpy().ravel() for stack in stacks(manager)])


def empty(manager):
    """And full of values that a load must not leave there."""
    manager.remove_all_adapters()
    for stack in stacks(manager):
        stack.fill_(7.0)


def others(folders):
    return {
        number: request(number, write(folders / f"other-{number}", SHAPES, seed=number, rank=RANK))
        for number in (1, 2)
    }


loras = st.builds(
    dict,
    names=st.sets(st.sampled_from(sorted(SHAPES)), min_size=1).map(sorted),
    rank=st.sampled_from([1, 4, RANK]),
    use_rslora=st.booleans(),
)


@given(lora=loras, steps=st.lists(st.sets(st.sampled_from([1, 2])), max_size=60), given_up=st.booleans())
@settings(max_examples=25, deadline=None)
def test_slices_with_steps_between_them_give_what_vllm_gives_in_one_go(
    manager, folders, lora, steps, given_up
):
    folder = write(folders / json.dumps(lora).replace("/", ""), seed=5, **lora)
    wanted = {}
    for number, each in (others(folders) | {NEW: request(NEW, folder)}).items():
        empty(manager)
        manager.add_adapter(each)
        wanted[number] = written(manager, number)
    empty(manager)
    beside = others(folders)
    for each in beside.values():
        manager.add_adapter(each)
    loading = slices.load(manager, request(NEW, folder))
    for asked in steps:
        if next(loading, loading) is loading:
            break
        assert NEW not in manager.list_adapters()  # no request may run on half of it
        manager._apply_adapters({beside[number] for number in asked})
        for number in asked:
            assert np.array_equal(written(manager, number), wanted[number])
    if given_up and NEW not in manager.list_adapters():
        loading.close()
        assert written(manager, NEW) is None
        assert NEW not in manager._adapter_manager._active_adapters
        manager.add_adapter(request(NEW, folder))
    for _ in loading:
        pass
    assert manager.list_adapters() == {1, 2, NEW}
    assert np.array_equal(written(manager, NEW), wanted[NEW])
    manager._apply_adapters({beside[1], request(NEW, folder)})
    for number in (1, NEW):
        assert np.array_equal(written(manager, number), wanted[number])


def test_the_oldest_makes_room_and_what_vllm_refuses_is_refused_with_its_words(manager, folders, tmp_path):
    empty(manager)
    four = write(folders / "four", ["self_attn.q_proj"], seed=3, rank=4)
    for number in range(1, 5):
        for _ in slices.load(manager, request(number, four)):
            pass
    assert manager.list_adapters() == {2, 3, 4}
    assert set(manager._adapter_manager.lora_index_to_id) == {3, 4}
    bad = {
        "no such module": write_peft(
            tmp_path / "module", {"base_model.model.model.h.lora_A.weight": np.ones((4, 32), np.float32)}
        ),
        "rank": write(tmp_path / "rank", ["mlp.up_proj"], seed=1, rank=RANK + 1),
        "nothing there": tmp_path / "nothing",
    }
    for folder in bad.values():
        told = []
        for way in (lambda one: list(slices.load(manager, one)), manager.add_adapter):
            with pytest.raises(Exception) as refused:  # noqa: PT011 - vLLM's own, whichever it is
                way(request(8, folder))
            told.append((refused.type, str(refused.value)))
        assert told[0] == told[1]
        assert manager.list_adapters() == {2, 3, 4}
        assert set(manager._adapter_manager.lora_index_to_id) == {3, 4}


class Engine:
    """Of one worker, always busy, and so slow that a slice is one module."""

    def __init__(self, manager):
        from server.vllm_decoder.worker import AdapterWorker

        self.worker = AdapterWorker()
        self.worker.model_runner = SimpleNamespace(lora_manager=manager)
        self.output_processor = SimpleNamespace(has_unfinished_requests=lambda: True)
        self.called = []
        self.five = asyncio.Event()

    async def collective_rpc(self, method, args):
        await asyncio.sleep(0)
        self.called.append((method, args[0]))
        if len(self.called) == 5:
            self.five.set()
        slow = (*args[:3], 0.0) if method == "load_lora" else args
        return [getattr(self.worker, method)(*slow)]


def test_loads_go_one_by_one_and_one_that_is_given_up_leaves_nothing(manager, folders):
    empty(manager)
    four = str(write(folders / "four", ["self_attn.q_proj"], seed=3, rank=4))
    engine = Engine(manager)
    loading = LoraLoading(engine, step_seconds=0.0)

    async def run():
        first, second = (asyncio.ensure_future(loading.load(number, "x", four)) for number in (1, 2))
        await engine.five.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert engine.called[-1] == ("drop_lora", 1)
        await second
        with pytest.raises(Exception, match="No adapter found"):
            await loading.load(3, "x", four + "-not-there")

    asyncio.run(run())
    assert engine.called[:5] == [("load_lora", 1)] * 5
    assert manager.list_adapters() == {2}
    assert engine.worker.loras_coming == {}
    assert sorted(manager._adapter_manager.lora_index_to_id, key=str) == [2, None]


def test_a_load_that_is_given_up_does_not_wait_for_an_engine_that_hangs():
    class Hung:
        output_processor = SimpleNamespace(has_unfinished_requests=lambda: True)

        async def collective_rpc(self, method, args):
            await asyncio.Event().wait()

    async def run():
        loading = LoraLoading(Hung(), step_seconds=0.0, patience=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loading.load(1, "x", "/nowhere"), 0.01)

    asyncio.run(run())
