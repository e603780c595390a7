"""Served equals trained: vLLM on the processor against Hugging Face and peft, kinds mixed in one batch.

A1, A2, A3, A6 and A7 of the acceptance list on a small random model; every adapter changes every answer.
"""

import asyncio
import gc

import pytest

from server.errors import AdapterInUse, EngineUnavailable, InvalidValue
from server.loadables import Loadable
from server.records import Limits
from server.vllm_decoder import EngineOptions, VllmDecoder
from server.vllm_decoder.rehearsal import rehearse
from tests.server.adapters.reference import greedy, hf_answers, length_of, make_adapter, write_llama
from training import bottlenecks

# vLLM and what it imports warn of their own affairs, in this process too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]
PROMPTS = [[3, 17, 200, 44, 9], [5, 5, 5, 77, 301], list(range(40, 90))]
TOKENS = 8
TOLERANCE = 2e-3  # of a log-probability


@pytest.fixture(autouse=True)
def _swept():
    """What vLLM leaves to the collector warns when it goes: here, where its warnings are not ours."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Model, adapters by name, and what Hugging Face says of each."""
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig

    folder = tmp_path_factory.mktemp("made")
    model = write_llama(folder / "model")
    adapters = {}
    for seed in range(3):
        lora = LoraConfig(
            task_type="CAUSAL_LM",
            r=4 if seed == 2 else 8,
            lora_alpha=16,
            use_rslora=seed == 1,
            target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
        )
        soft = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5 + seed)
        adapters[f"lora{seed}"] = make_adapter(model, folder / f"lora{seed}", lora, seed=seed)
        adapters[f"soft{seed}"] = make_adapter(model, folder / f"soft{seed}", soft, seed=seed, scale=0.3)
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=32, prefix_projection=False)
    adapters["prefix0"] = make_adapter(model, folder / "prefix0", prefix, seed=9, scale=0.7)
    wanted = {name: hf_answers(model, path, PROMPTS, TOKENS) for name, path in adapters.items()}
    wanted[None] = hf_answers(model, None, PROMPTS, TOKENS)
    for number in range(len(PROMPTS)):
        firsts = [max(answers[number][1][0].values()) for answers in wanted.values()]
        said = [
            (*answers[number][0], round(first, 2))
            for answers, first in zip(wanted.values(), firsts, strict=True)
        ]
        assert len(set(said)) == len(said)  # or an answer would not tell who gave it
    return model, adapters, wanted


def options(model, tmp_path, **changes):
    usual = {
        "model": str(model),
        "context_tokens": 256,
        "batch": 16,
        "kv_cache_bytes": 2**27,
        "max_loras": 2,
        "max_lora_rank": 8,
        "live_loras": 3,
        "soft_rows": 18,
        "prefix_rows": 32,
        "rows_cache": str(tmp_path / "rows"),
    }
    return EngineOptions(**(usual | changes))


def loadable(name, path, number):
    kind = {"l": "lora", "s": "soft-prompt", "p": "prefix"}[name[0]]
    return Loadable(reference=name, number=number, kind=kind, folder=path, length=length_of(path))


async def say(decoder, number, adapter, call, salt=""):
    limits = Limits(max_tokens=TOKENS, temperature=0.0, logprobs=20, ignore_eos=True, cache_salt=salt)
    tokens, logprobs = [], []
    asked = decoder.decode(tuple(PROMPTS[number]), limits, request_id=call, adapter=adapter)
    async for piece in asked:
        tokens += piece.tokens
        logprobs += piece.logprobs or ()
    return tokens, logprobs


def check(wanted, name, number, said):
    tokens, logprobs = said
    ids, steps = wanted[name][number]
    assert tokens == ids, (name, number)
    for token, logprob, step in zip(tokens, logprobs, steps, strict=True):
        assert abs(logprob.logprob - step[token]) < TOLERANCE
        ours = sorted((one.logprob for one in logprob.top[:20]), reverse=True)
        theirs = sorted(step.values(), reverse=True)
        assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < TOLERANCE


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """Models with weights of their own by name, with their kinds, and what Hugging Face says of each."""
    import torch
    from peft import IA3Config
    from transformers import AutoModelForCausalLM

    model, _, _ = made
    folder = tmp_path_factory.mktemp("whole")
    ia3 = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    )
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(6)
    for one in bottlenecks.insert(network, 8).adapters.parameters():
        one.data = 0.3 * torch.randn_like(one)
    (folder / "neck").mkdir()
    bottlenecks.save(network, folder / "neck")
    found = {
        "neck": ("bottleneck", folder / "neck"),
        "ia3": ("ia3", make_adapter(model, folder / "ia3", ia3, seed=4, scale=1.5)),
    }
    wanted = {"ia3": hf_answers(model, folder / "ia3", PROMPTS, TOKENS)}
    wanted["neck"] = greedy(network.eval(), PROMPTS, TOKENS)
    for name, seed in (("full1", 1), ("full2", 2)):
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        torch.manual_seed(seed)
        for one in network.parameters():
            one.data += 0.05 * torch.randn_like(one)
        network.save_pretrained(folder / name)
        found[name] = ("full", folder / name)
        wanted[name] = hf_answers(folder / name, None, PROMPTS, TOKENS)
    return found, wanted


async def served(decoder, adapters, wanted):
    host = decoder.adapters
    assert host.kinds == {"lora", "soft-prompt", "prefix"}
    numbers = {name: number for number, name in enumerate(adapters, 1)}
    for name, path in adapters.items():
        await host.load(loadable(name, path, numbers[name]))
    assert await host.loaded() == set(adapters)

    async def everybody(round_):
        asked = [(name, number) for name in wanted for number in range(len(PROMPTS))]
        answers = await asyncio.gather(
            *(say(decoder, number, name, f"{round_}-{name}-{number}") for name, number in asked)
        )
        for (name, number), said in zip(asked, answers, strict=True):
            check(wanted, name, number, said)

    await rehearse(decoder.engine, host.held("lora0").lora)
    assert not decoder.engine.output_processor.has_unfinished_requests()
    for round_ in range(3):  # the later ones out of the prefix cache; three LoRAs turn on two slots
        await everybody(round_)
    with pytest.raises(AdapterInUse, match="live_loras"):
        await host.load(loadable("lora9", adapters["lora0"], 90))
    with pytest.raises(AdapterInUse, match="soft_rows"):
        await host.load(loadable("soft9", adapters["soft0"], 91))
    with pytest.raises(InvalidValue, match="not in the engine"):
        await say(decoder, 0, "nobody", "nobody")
    # Rows, slots and ids are used again by others, and nothing old comes out of the cache.
    await host.unload("soft0")
    await host.unload("lora0")
    assert await host.loaded() == set(adapters) - {"soft0", "lora0"}
    again = {"soft9": adapters["soft0"], "lora9": adapters["lora0"]}
    for number, (name, path) in enumerate(again.items(), 50):
        await host.load(loadable(name, path, number))
        check(wanted, f"{name[:4]}0", 1, await say(decoder, 1, name, f"again-{name}"))
    await host.unload("soft1")
    await host.load(loadable("soft8", adapters["soft0"], 60))
    check(wanted, "soft0", 0, await say(decoder, 0, "soft8", "other rows"))
    await host.unload("lora9")
    bad = adapters["soft0"].parent / "bad"
    with pytest.raises(InvalidValue, match="engine refuses"):
        await host.load(Loadable(reference="bad", number=61, kind="lora", folder=bad, length=8))
    check(wanted, None, 0, await say(decoder, 0, None, "still alive"))
    # A worker that lost a prefix fails the request; it never answers without it.
    await decoder._engine.collective_rpc("drop_prefix", args=(host.held("prefix0").ids[0],))
    with pytest.raises(EngineUnavailable, match="could not decode"):
        await say(decoder, 0, "prefix0", "lost", salt="nothing cached")
    check(wanted, None, 0, await say(decoder, 0, None, "alive after all"))


def test_every_kind_answers_as_it_was_trained_beside_all_others(made, tmp_path):
    model, adapters, wanted = made

    async def run():
        decoder = await VllmDecoder.open(options(model, tmp_path))
        try:
            assert decoder.profile.vocabulary == 512
            await served(decoder, adapters, wanted)
        finally:
            await decoder.close()

    asyncio.run(run())


def test_models_with_weights_of_their_own_answer_beside_the_base_and_its_adapters(made, whole, tmp_path):
    model, adapters, wanted = made
    found, more = whole
    wanted = {None: wanted[None], "lora0": wanted["lora0"], **more}

    async def run():
        changes = {"full_models": 2, "full_kv_cache_bytes": 2**27, "merged_cache": str(tmp_path / "merged")}
        decoder = await VllmDecoder.open(options(model, tmp_path, **changes))
        host = decoder.adapters

        async def all_of(*names):
            asked = [(name, number) for name in names for number in range(len(PROMPTS))]
            answers = await asyncio.gather(
                *(say(decoder, number, name, f"{name}{number}") for name, number in asked)
            )
            for (name, number), said in zip(asked, answers, strict=True):
                check(wanted, name, number, said)

        async def bring(name, number):
            kind, path = found[name]
            await host.load(Loadable(reference=name, number=number, kind=kind, folder=path, length=0))

        try:
            assert host.kinds >= {"full", "ia3", "delta", "lora"}
            await host.load(loadable("lora0", adapters["lora0"], 1))
            await asyncio.gather(bring("ia3", 2), all_of(None, "lora0"))
            await bring("full1", 3)
            await all_of(None, "lora0", "ia3", "full1")
            with pytest.raises(AdapterInUse, match=r"adapters\.full_models"):
                await bring("full2", 4)
            await host.unload("full1")
            with pytest.raises(InvalidValue, match="not in the engine"):
                await say(decoder, 0, "full1", "gone")
            await bring("full2", 4)
            await all_of("full2", "ia3", None, "lora0")
            await host.unload("ia3")
            await bring("neck", 5)
            await all_of("full2", "neck", None, "lora0")
            dead = host.held("full2").engine
            dead.engine_core.resources.engine_manager.processes[0].kill()
            with pytest.raises(EngineUnavailable):
                await say(decoder, 0, "full2", "dying")
            assert host.lost() == {"full2"}
            await all_of("neck", None, "lora0")
        finally:
            await decoder.close()
        assert list((tmp_path / "merged").iterdir()) == []

    asyncio.run(run())


def test_without_the_guard_the_engine_does_not_start(made, tmp_path):
    model, _, _ = made
    with pytest.raises(EngineUnavailable, match="mixes adapters up"):
        asyncio.run(VllmDecoder.open(options(model, tmp_path, guard_lora=False, soft_rows=0, prefix_rows=0)))
