"""What changes the base's own weights: taken in when it fits, merged exactly, given an engine, or refused."""

import asyncio
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from server.adapters.intake import Bounds, Intake
from server.adapters.records import Base
from server.errors import AdapterInUse, EngineUnavailable, InvalidValue
from server.loadables import Loadable
from server.vllm_decoder.engines import GIB, Engines, Room
from server.vllm_decoder.merging import merged
from server.vllm_decoder.options import EngineOptions
from tests.server.adapters.making import write_manifest, write_peft

SHAPES = {
    "model.embed_tokens.weight": (16, 8),
    "model.layers.0.self_attn.k_proj.weight": (4, 8),
    "model.layers.0.self_attn.k_proj.bias": (4,),
    "model.layers.0.mlp.down_proj.weight": (8, 6),
}
CONFIG = {"model_type": "llama", "hidden_size": 8, "rope_theta": 100.0, "tie_word_embeddings": True}
BASE = Base(
    name="tiny", digest="ba5e" * 16, hidden=8, layers=1, kv_heads=1, head_dim=4, shapes=SHAPES, config=CONFIG
)
IA3 = {"peft_type": "IA3", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
K, DOWN = (f"base_model.model.model.layers.0.{name}.ia3_l" for name in ("self_attn.k_proj", "mlp.down_proj"))


def weights(seed=0, leave=()):
    draw = np.random.default_rng(seed)
    return {
        name: draw.normal(size=shape).astype(np.float32)
        for name, shape in SHAPES.items()
        if name not in leave
    }


def vectors(seed=1):
    draw = np.random.default_rng(seed)
    return {
        K: draw.normal(1, 0.5, size=(4, 1)).astype(np.float32),
        DOWN: draw.normal(1, 0.5, size=(1, 6)).astype(np.float32),
    }


def write_model(folder, tensors, config=CONFIG, file="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def intake(tmp_path):
    return Intake(tmp_path / "adapters", BASE, Bounds())


def test_whole_models_vectors_and_deltas_are_taken_in(intake, tmp_path):
    saved = CONFIG | {"use_cache": False, "transformers_version": "5", "rope_scaling": None}
    full = intake.from_folder(write_model(tmp_path / "full", weights(3), saved), name="mine")
    assert (full.kind, full.length, full.added_tokens) == ("full", 0, 0)
    assert intake.in_place("mine", full.version).digest == full.digest
    two = write_model(tmp_path / "two", {"model.embed_tokens.weight": weights(3).pop(next(iter(SHAPES)))},
                      file="model-00001-of-00002.safetensors")  # fmt: skip
    write_model(two, weights(3, leave=list(SHAPES)[:1]), file="model-00002-of-00002.safetensors")
    assert intake.from_folder(two, name="mine").kind == "full"
    assert intake.from_folder(write_peft(tmp_path / "ia3", vectors(), IA3), name="mine").kind == "ia3"
    delta = tmp_path / "delta"
    delta.mkdir()
    save_file({list(SHAPES)[3]: weights(3)[list(SHAPES)[3]]}, delta / "weights.safetensors")
    assert intake.from_folder(write_manifest(delta, "mine", "delta")).kind == "delta"


def shaped(name, shape):
    return weights() | {name: np.zeros(shape, np.float32)}


WHOLE = {
    "a tensor too few": (weights(leave=list(SHAPES)[1:2]), CONFIG, "is missing"),
    "a tensor too many": (shaped("model.layers.9.k_proj.weight", (4, 8)), CONFIG, "the base has no"),
    "another shape": (shaped("model.embed_tokens.weight", (17, 8)), CONFIG, r"has the shape \(17, 8\)"),
    "a head of its own": (shaped("lm_head.weight", (16, 8)), CONFIG, "ties lm_head"),
    "not a number": (shaped("model.embed_tokens.weight", (16, 8)) | {
        "model.layers.0.self_attn.k_proj.bias": np.full(4, np.nan, np.float32)}, CONFIG, "NaN"),
    "whole numbers": (weights() | {
        "model.layers.0.self_attn.k_proj.bias": np.zeros(4, np.int32)}, CONFIG, "I32"),
    "another rotation": (weights(), CONFIG | {"rope_theta": 5.0}, "rope_theta"),
    "code of its own": (weights(), CONFIG | {"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
    "a config that is no JSON": (weights(), "[1]", "not a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_models_that_are_not_the_base_with_other_weights_are_refused(intake, tmp_path, case):
    tensors, config, why = WHOLE[case]
    folder = write_model(tmp_path / "bad", tensors)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(InvalidValue, match=why):
        intake.from_folder(folder, name="bad")
    assert list(intake.root.rglob("*")) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({K: np.ones((8, 1), np.float32)}, r"the layer takes \(4, 1\) or \(1, 8\)"),
        ({K.replace("k_proj", "z_proj"): np.ones((4, 1), np.float32)}, "the base has no layer"),
        ({K.replace("ia3_l", "lora_A"): np.ones((4, 1), np.float32)}, "no .IA.³ vector"),
        ({K: np.full((4, 1), np.inf, np.float32)}, "infinity"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(intake, tmp_path, change, why):
    with pytest.raises(InvalidValue, match=why):
        intake.from_folder(write_peft(tmp_path / "bad", vectors() | change, IA3), name="bad")
    saved = IA3 | {"modules_to_save": ["lm_head"]}
    with pytest.raises(InvalidValue, match="modules_to_save=None"):
        intake.from_folder(write_peft(tmp_path / "more", vectors(), saved), name="bad")


def bottlenecks(width=3, layers=1, **change):
    return {
        f"adapters.{layer}.{name}": np.ones(shape, np.float32)
        for layer in range(layers)
        for name, shape in {"down.weight": (width, 8), "down.bias": (width,), "up.weight": (8, width),
                            "up.bias": (8,), **change}.items()
        if shape
    }  # fmt: skip


def test_bottlenecks_stand_after_every_block_of_the_base_or_are_refused(intake, tmp_path):
    def kept(name, tensors):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "weights.safetensors")
        return intake.from_folder(write_manifest(tmp_path / name, "neck", "bottleneck"))

    assert kept("good", bottlenecks()).kind == "bottleneck"
    for name, tensors, why in (
        ("deep", bottlenecks(layers=2), "no tensor of a bottleneck adapter of this base"),
        ("wide", bottlenecks(**{"up.weight": (9, 3)}), r"has the shape \(9, 3\), not \(8, 3\)"),
        ("half", bottlenecks(**{"up.bias": ()}), "is missing"),
        ("mad", bottlenecks() | {"adapters.0.up.bias": np.full(8, np.nan, np.float32)}, "NaN"),
    ):
        with pytest.raises(InvalidValue, match=why):
            kept(name, tensors)


def loadable(kind, folder, reference="mine@0123456789ab"):
    return Loadable(reference=reference, number=1, kind=kind, folder=folder, length=0)


def test_scaled_weights_say_what_scaled_activations_said(tmp_path):
    """y = l ⊙ (W x + b) for what a layer gives, y = W (l ⊙ x) for what it takes: as in (IA)³'s paper."""
    base = write_model(tmp_path / "base", weights())
    (base / "tokenizer.json").write_text("{}")
    folder = write_peft(tmp_path / "ia3", vectors(), IA3)
    with merged(base, loadable("ia3", folder), tmp_path / "cache") as copy:
        new = load_file(copy / "model.safetensors")
        assert json.loads((copy / "config.json").read_text()) == CONFIG
        assert (copy / "tokenizer.json").is_file()
    assert list((tmp_path / "cache").iterdir()) == []
    k, down = vectors()[K], vectors()[DOWN]
    x, h = np.random.default_rng(5).normal(size=(2, 8)), np.random.default_rng(6).normal(size=6)
    w, b, d = (weights()[name] for name in list(SHAPES)[1:])
    old = "model.layers.0.self_attn.k_proj."
    assert new[f"{old}weight"] @ x[0] + new[f"{old}bias"] == pytest.approx(k[:, 0] * (w @ x[0] + b), abs=1e-5)
    assert new["model.layers.0.mlp.down_proj.weight"] @ h == pytest.approx(d @ (down[0] * h), abs=1e-5)
    assert (new["model.embed_tokens.weight"] == weights()["model.embed_tokens.weight"]).all()


def test_a_full_finetune_brings_its_weights_and_nothing_else(tmp_path):
    base = write_model(tmp_path / "base", weights())
    (base / "model.safetensors.index.json").write_text("{}")
    mine = write_model(tmp_path / "mine", weights(9), CONFIG | {"use_cache": False})
    with merged(base, loadable("full", mine), tmp_path / "cache") as copy:
        assert (
            load_file(copy / "model.safetensors")[next(iter(SHAPES))] == weights(9)[next(iter(SHAPES))]
        ).all()
        assert sorted(file.name for file in copy.iterdir()) == ["config.json", "model.safetensors"]
        assert "use_cache" not in (copy / "config.json").read_text()


class Engine:
    """What the door asks of an engine's life."""

    output_handler = None

    def __init__(self):
        self.errored = self.down = False
        self.told = lambda: None

    def shutdown(self):
        self.down = True
        self.told()


def engines(base, tmp_path, places=2, free=8 * GIB, begin=None):
    async def room():
        return Room(free, 16 * GIB)

    options = EngineOptions(
        model=str(base), context_tokens=64, batch=2, full_models=places, merged_cache=str(tmp_path / "cache")
    )
    return Engines(options, width=4, room=room, begin=begin or (lambda _: Engine()))


@pytest.fixture
def made(tmp_path):
    return write_model(tmp_path / "base", weights()), write_model(tmp_path / "mine", weights(9))


def test_each_model_gets_an_engine_while_there_is_a_place(made, tmp_path):
    base, mine = made
    started = []

    def begin(options):
        assert Path(options.model).parent == tmp_path / "cache"
        assert (options.full_models, options.max_loras, options.kv_cache_bytes) == (0, 0, 2**30)
        assert options.gpu_memory_share == pytest.approx(2 / 16, abs=1e-6)
        started.append(Engine())
        return started[-1]

    async def run():
        host = engines(base, tmp_path, begin=begin)
        first, second = await asyncio.gather(
            *(host.load(loadable("full", mine, f"m{n}@0123456789ab")) for n in range(2))
        )
        assert {first, second} == set(started)
        with pytest.raises(AdapterInUse, match=r"m0@.*fill the 2 places.*adapters.full_models"):
            await host.load(loadable("full", mine, "m2@0123456789ab"))
        first.errored = True
        assert host.lost() == {"m0@0123456789ab"}
        await host.unload("m0@0123456789ab")
        assert first.down
        await host.load(loadable("full", mine, "m2@0123456789ab"))
        await host.close()
        assert all(one.down for one in started)

    asyncio.run(run())


def test_what_does_not_fit_into_memory_is_refused_before_anything_starts(made, tmp_path):
    base, mine = made
    host = engines(base, tmp_path, free=GIB, begin=lambda _: pytest.fail("it was started"))
    with pytest.raises(AdapterInUse, match=r"about 2.0 GiB of memory; 1.0 of 16.0 GiB are free"):
        asyncio.run(host.load(loadable("full", mine)))
    assert not (tmp_path / "cache").exists()


def test_an_engine_that_does_not_start_leaves_no_place_taken(made, tmp_path):
    base, mine = made

    def begin(options):
        raise RuntimeError("no")

    async def run():
        host = engines(base, tmp_path, places=1, begin=begin)
        for _ in range(2):
            with pytest.raises(InvalidValue, match="no engine starts with mine@"):
                await host.load(loadable("full", mine))

    asyncio.run(run())
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_engine_that_nobody_waits_for_any_more_is_closed(made, tmp_path):
    base, mine = made
    begun, go = asyncio.Event(), threading.Event()
    engine = Engine()
    closed = asyncio.Event()

    async def run():
        loop = asyncio.get_running_loop()

        def begin(_):
            loop.call_soon_threadsafe(begun.set)
            go.wait(10)
            return engine

        engine.told = lambda: loop.call_soon_threadsafe(closed.set)
        host = engines(base, tmp_path, places=1, begin=begin)
        asked = asyncio.create_task(host.load(loadable("full", mine)))
        await begun.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        go.set()
        await asyncio.wait_for(closed.wait(), 10)
        assert engine.down
        assert await host.load(loadable("full", mine)) is engine

    asyncio.run(run())


def test_a_delta_changes_its_own_tensors_alone(made, tmp_path):
    base, _ = made
    delta = tmp_path / "delta"
    delta.mkdir()
    name = list(SHAPES)[3]
    save_file({name: weights(4)[name]}, delta / "weights.safetensors")
    with merged(base, loadable("delta", delta), tmp_path / "cache") as copy:
        new = load_file(copy / "model.safetensors")
    assert (new[name] == weights(4)[name]).all()
    assert all((new[other] == weights()[other]).all() for other in SHAPES if other != name)


def test_an_engine_that_starts_while_all_are_closed_is_closed_too(made, tmp_path):
    base, mine = made
    begun, go = asyncio.Event(), threading.Event()
    engine = Engine()

    async def run():
        loop = asyncio.get_running_loop()

        def begin(_):
            loop.call_soon_threadsafe(begun.set)
            go.wait(10)
            return engine

        host = engines(base, tmp_path, begin=begin)
        asked = asyncio.create_task(host.load(loadable("full", mine)))
        await begun.wait()
        await host.close()
        go.set()
        with pytest.raises(EngineUnavailable, match="closing"):
            await asked
        assert engine.down

    asyncio.run(run())
