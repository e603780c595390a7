"""The parts of the vLLM door that need no engine: reserved ids, grown models, the CPU operators."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from server.vllm_decoder.bank import Bank, BankFull
from server.vllm_decoder.rows import with_rows


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_no_id_is_ever_held_twice_and_none_is_lost(steps):
    bank, held = Bank(100, 64), []
    for takes, size in steps:
        if takes:
            try:
                ids = bank.take(size)
            except BankFull as problem:
                free = problem.free
            else:
                free = None
            if free is not None:
                assert free == 64 - sum(map(len, held))
                continue
            assert ids == tuple(range(ids[0], ids[0] + size))
            assert set(ids) <= set(range(100, 164))
            assert all(not set(ids) & set(others) for others in held)
            held.append(ids)
        elif held:
            bank.give_back(held.pop(size % len(held)))
    for ids in held:
        bank.give_back(ids)
    assert bank.take(64) == tuple(range(100, 164))


def test_ids_are_not_given_back_twice():
    bank = Bank(0, 8)
    ids = bank.take(4)
    bank.give_back(ids)
    with pytest.raises(ValueError, match="twice"):
        bank.give_back(ids)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_grows_rows_of_zeros_and_nothing_else_changes(tmp_path, tied):
    model = tmp_path / "small"
    model.mkdir()
    draw = np.random.default_rng(3)
    tensors = {
        "model.embed_tokens.weight": draw.normal(size=(100, 8)).astype(np.float16),
        "model.norm.weight": draw.normal(size=(8,)).astype(np.float32),
    }
    if not tied:
        tensors["lm_head.weight"] = draw.normal(size=(100, 8)).astype(np.float32)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    save_file({"model.other.weight": np.ones((3, 3), np.float32)}, model / "more.safetensors")
    (model / "config.json").write_text(json.dumps({"vocab_size": 100, "hidden_size": 8}))
    (model / "tokenizer.json").write_text("{}")
    rows = with_rows(model, 20, tmp_path / "cache", "d" * 64)
    assert (rows.first, rows.size) == (100, 28)  # to 128, an even number of blocks
    assert json.loads((rows.folder / "config.json").read_text())["vocab_size"] == 128
    grown = load_file(rows.folder / "model.safetensors")
    for name, tensor in tensors.items():
        assert np.array_equal(grown[name][: len(tensor)], tensor)
        if len(tensor) == 100:
            assert grown[name].shape == (128, 8)
            assert not grown[name][100:].any()
    assert (rows.folder / "more.safetensors").read_bytes() == (model / "more.safetensors").read_bytes()
    assert with_rows(model, 20, tmp_path / "cache", "d" * 64) == rows
    assert [folder.name for folder in (tmp_path / "cache").iterdir()] == [rows.folder.name]


def test_a_model_without_an_embedding_is_refused(tmp_path):
    model = tmp_path / "small"
    model.mkdir()
    save_file({"w": np.ones((3, 3), np.float32)}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"vocab_size": 100}))
    with pytest.raises(ValueError, match="embed_tokens"):
        with_rows(model, 20, tmp_path / "cache", "d" * 64)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("slots", [[0, 0, 0], [1, -1, 0, 1, -1], [-1, -1], [2]])
def test_the_cpu_operators_leave_tokens_without_a_slot_alone(slots):
    torch = pytest.importorskip("torch")
    from server.vllm_decoder import guard

    draw = torch.Generator().manual_seed(1)
    tokens, rank, columns, rows = len(slots), 4, 6, 10

    def some(*shape):
        return torch.randn(*shape, generator=draw)

    inputs, first, second = some(tokens, columns), some(3, 1, rank, columns), some(3, 1, rows, rank)
    narrow, output = torch.full((tokens, rank), 7.0), some(tokens, 12)
    before, index = output.clone(), torch.tensor(slots)
    guard.bgmv_shrink(inputs, first, narrow, index, 0.5)
    guard.bgmv_expand_slice(narrow, second, output, index, 1, rows, True)
    for token, slot in enumerate(slots):
        wanted = before[token].clone()
        if slot >= 0:
            wanted[1 : 1 + rows] += second[slot, 0] @ (0.5 * first[slot, 0] @ inputs[token])
        assert torch.allclose(output[token], wanted, atol=1e-5)
    guard.bgmv_expand(narrow, second, output, index, False)
    for token, slot in enumerate(slots):
        if slot >= 0:
            assert torch.allclose(output[token, :rows], second[slot, 0] @ narrow[token], atol=1e-5)


RUNS = st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 4)), min_size=1, max_size=6)


@settings(deadline=None)
@given(
    RUNS, st.lists(st.integers(1, 7), min_size=1, max_size=3), st.sampled_from([1.0, 0.5]), st.integers(0, 99)
)
def test_what_linear_layers_add_on_a_processor_is_each_tokens_own(runs, widths, scale, seed):
    """Runs of tokens with a slot each, as vLLM's metadata has them; −1 is no slot."""
    torch = pytest.importorskip("torch")
    from server.vllm_decoder import guard

    draw = torch.Generator().manual_seed(seed)
    slots = [slot for slot, length in runs for _ in range(length)]
    x = torch.randn(len(slots), 6, generator=draw)
    y = torch.randn(len(slots), sum(widths), generator=draw)
    first = [torch.randn(3, 1, 4, 6, generator=draw) for _ in widths]
    second = [torch.randn(3, 1, width + 2, 4, generator=draw) for width in widths]  # vLLM may pad
    wanted = y.clone()
    for token, slot in enumerate(slots):
        if slot >= 0:
            parts = [
                b[slot, 0, :width] @ (scale * a[slot, 0] @ x[token])
                for a, b, width in zip(first, second, widths, strict=True)
            ]
            wanted[token] += torch.cat(parts)
    groups = [
        (slot, tokens if isinstance(tokens, slice) else torch.tensor(tokens))
        for slot, tokens in guard.grouped([slot for slot, _ in runs], [length for _, length in runs])
    ]
    guard.add_lora_linear(groups, y, x, first, second, scale, widths)
    assert torch.allclose(y, wanted, atol=1e-5)
