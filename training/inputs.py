"""What a network eats, batch by batch: token ids, or hidden states that were computed once.

Below the first trained block nothing changes from epoch to epoch or seed to seed, so what leaves it is kept:
training the last n of L blocks then costs n/L of a full step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from training.backbone import Backbone, pooled
from training.batching import Lengths, batches, padded, width
from training.records import Pooling

FORWARD_TOKENS = {"cpu": 8_192, "cuda": 131_072}  # of a batch without gradients
CPU_CACHE_BYTES = 3 * 2**30
CUDA_CACHE_SHARE = 0.45  # of the free memory


class Inputs(Protocol):
    """Rows that can be taken by number."""

    @property
    def lengths(self) -> Lengths: ...

    def take(self, at: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(ids or entering states, mask) on the device, padded on the right."""
        ...


class Tokens(NamedTuple):
    """Token ids; the network runs from its embeddings."""

    rows: Sequence[Sequence[int]]
    pad_id: int
    device: torch.device

    @property
    def lengths(self) -> Lengths:
        return np.array([len(row) for row in self.rows])

    def take(self, at: Sequence[int]) -> tuple[Tensor, Tensor]:
        batch = padded([self.rows[one] for one in at], self.pad_id, tuple(at))
        return batch.ids.to(self.device, non_blocking=True), batch.mask.to(self.device, non_blocking=True)


class Below(NamedTuple):
    """Token ids, run through the frozen blocks at every step: for when their states do not fit in memory."""

    tokens: Tokens
    backbone: Backbone
    start: int

    @property
    def lengths(self) -> Lengths:
        return self.tokens.lengths

    def take(self, at: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids, mask = self.tokens.take(at)
        with torch.no_grad(), casting(ids.device):
            return self.backbone.below(self.start, ids, mask), mask


class States(NamedTuple):
    """Hidden states of all rows one after the other, shape (all tokens, hidden)."""

    flat: Tensor
    offsets: Tensor  # (rows + 1,), int64
    lengths: Lengths

    def take(self, at: Sequence[int]) -> tuple[Tensor, Tensor]:
        device = self.flat.device
        rows = torch.as_tensor(list(at), device=device)
        start, length = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        place = torch.arange(width(int(self.lengths[list(at)].max())), device=device)
        mask = place < length.unsqueeze(1)
        index = (start.unsqueeze(1) + place).clamp(max=len(self.flat) - 1)
        return self.flat[index] * mask.unsqueeze(-1), mask.long()


def prepared(
    backbone: Backbone, rows: Sequence[Sequence[int]], start: int, *, pooling: Pooling, keep: bool = True
) -> Inputs:
    """Inputs for a network that runs from block `start` on; the states are kept when they fit in memory.

    A network that runs no block at all gets pooled rows: each text as one token.
    """
    tokens = Tokens(rows, backbone.pad_id, backbone.device)
    if start == 0:
        return tokens
    top = start >= backbone.depth
    bytes_each = 2 if backbone.device.type == "cuda" else 4
    total = len(rows) if top else sum(len(row) for row in rows)
    if not top and (not keep or total * backbone.hidden * bytes_each > _room(backbone.device)):
        return Below(tokens, backbone, start)
    lengths = np.ones(len(rows), dtype=np.int64) if top else tokens.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    dtype = torch.bfloat16 if backbone.device.type == "cuda" and not top else torch.float32
    flat = torch.empty((total, backbone.hidden), dtype=dtype, device=backbone.device)
    for batch in batches(rows, FORWARD_TOKENS[backbone.device.type], backbone.pad_id):
        ids, mask = batch.ids.to(backbone.device), batch.mask.to(backbone.device)
        with torch.no_grad(), casting(backbone.device):
            states = backbone.below(start, ids, mask)
        if top:
            flat[list(batch.at)] = pooled(states, mask, pooling)
            continue
        for number, at in enumerate(batch.at):
            flat[offsets[at] : offsets[at + 1]] = states[number, : lengths[at]].to(dtype)
    return States(flat, torch.from_numpy(offsets).to(backbone.device), lengths)


def casting(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware has it; float32 on a processor, where it would be emulated."""
    on_card = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_card)


def _room(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * CUDA_CACHE_SHARE
    return CPU_CACHE_BYTES
