"""`auto`, `cpu`, `cuda:1`: what they mean to torch and to FAISS."""

import re

import pytest

from indexer.devices import PATTERN, card_number, torch_names
from indexer.errors import IndexOptionRefused


@pytest.mark.parametrize(
    ("device", "names", "on_none", "on_two"),
    [
        ("auto", (), None, 0),
        ("cpu", ("cpu",), None, None),
        ("cuda", ("cuda:0",), "no card that FAISS can use", 0),
        ("cuda:1", ("cuda:1",), "no card that FAISS can use", 1),
        ("cuda:2", ("cuda:2",), "no card that FAISS can use", "no card cuda:2: there are cuda:0 to cuda:1"),
    ],
)
def test_a_device_is_a_card_or_the_processor(device, names, on_none, on_two):
    assert torch_names(device) == names
    for cards, expected in ((0, on_none), (2, on_two)):
        if isinstance(expected, str):
            with pytest.raises(IndexOptionRefused, match=re.escape(expected)):
                card_number(device, cards)
        else:
            assert card_number(device, cards) == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CUDA", "", "cpu:0"])
def test_other_names_are_refused(device):
    assert not re.fullmatch(PATTERN, device)
    with pytest.raises(IndexOptionRefused, match="none of auto, cpu, cuda"):
        card_number(device, 2)
