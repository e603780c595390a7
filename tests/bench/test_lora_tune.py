"""The search for launch settings, and the tables that the product ships."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.gpu.lora_tune import MOST_SLICES, WAYS, every_number, search
from server.vllm_decoder.options import LORA_KERNELS

TABLES = sorted(LORA_KERNELS.glob("*.json"))
NEEDED = {"block_m", "block_n", "block_k", "num_warps", "num_ctas", "num_stages"}


@given(st.dictionaries(st.sampled_from(["split_k", "block_k", "block_m", "num_warps"]), st.integers(-3, 3)))
def test_the_search_never_ends_slower_than_it_began(pulls):
    first = {"block_m": 32, "block_n": 16, "block_k": 128, "split_k": 64, "num_warps": 4, "num_stages": 2}

    def seconds(setting):
        return 1.0 + sum(pull * setting[name] / 1000 for name, pull in pulls.items())

    found, fastest, before = search("shrink", first, seconds, lambda setting: setting["block_k"] < 512)
    assert before == seconds(first)
    assert fastest == seconds(found) <= before
    assert found["block_k"] < 512
    assert all(found[name] == first[name] or found[name] in WAYS["shrink"][name] for name in first)


def test_a_setting_that_the_card_cannot_run_is_not_taken():
    first = {"block_k": 32, "block_m": 64, "block_n": 64, "num_warps": 4, "num_stages": 2}
    found, fastest, _ = search(
        "expand", first, lambda setting: 1.0 if setting == first else float("inf"), lambda _: True
    )
    assert (found, fastest) == (first, 1.0)


def test_every_number_of_slices_has_settings():
    assert every_number({"9": {"2": "two", "4": "four"}}) == {
        "9": {
            "1": "two",
            "2": "two",
            "3": "two",
            **dict.fromkeys(map(str, range(4, MOST_SLICES + 1)), "four"),
        }
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_a_shipped_table_has_what_vllm_looks_up(table):
    """`[loras + 1][slices][tokens][k][n]`, numbers as text; no slices there: a KeyError."""
    needed = NEEDED | ({"split_k", "group_size_m"} if table.stem.endswith("SHRINK") else set())
    for slices in json.loads(table.read_text()).values():
        assert set(slices) == set(map(str, range(1, MOST_SLICES + 1)))
        for tokens in slices.values():
            assert {"16", "256", "4096"} <= set(tokens)
            for setting in (one for k in tokens.values() for n in k.values() for one in n.values()):
                assert needed <= set(setting)
                powers = [setting[name] for name in needed - {"num_stages"}]
                assert all(power > 0 and not power & power - 1 for power in powers)
                assert setting["num_stages"] > 0


def test_each_card_has_both_tables():
    cards = {table.stem.removesuffix("_SHRINK").removesuffix("_EXPAND_TRUE") for table in TABLES}
    assert "NVIDIA_H200" in cards
    assert {f"{card}_{kind}" for card in cards for kind in ("SHRINK", "EXPAND_TRUE")} == {
        table.stem for table in TABLES
    }
