"""Where the models and indexes of a search live: `auto`, `cpu`, `cuda`, or `cuda:1`, the second card."""

import re

from indexer.errors import IndexOptionRefused

PATTERN = r"auto|cpu|cuda(:\d+)?"


def torch_names(device: str) -> tuple[str, ...]:
    """What torch calls the device; nothing for auto, where a model takes the best there is."""
    if device == "auto":
        return ()
    return ("cuda:0",) if device == "cuda" else (device,)


def card_number(device: str, cards: int) -> int | None:
    """Which of so many cards, counted from 0; None is the processor.

    Raises `IndexOptionRefused` for a name of no device and for a card that is not there.
    """
    if not re.fullmatch(PATTERN, device):
        raise IndexOptionRefused(f"device '{device}' is none of auto, cpu, cuda, cuda:0, cuda:1 and so on")
    if device == "cpu" or (device == "auto" and not cards):
        return None
    if not cards:
        raise IndexOptionRefused(
            "no card that FAISS can use: install faiss-gpu-cuvs in place of faiss-cpu, or search on the cpu"
        )
    number = int(device.partition(":")[2] or 0)
    if number >= cards:
        there = "there is one, cuda:0" if cards == 1 else f"there are cuda:0 to cuda:{cards - 1}"
        raise IndexOptionRefused(f"no card {device}: {there}")
    return number
