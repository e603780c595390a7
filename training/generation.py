"""Greedy answers of a causal model, bare or with an adapter of peft, many prompts at a time.

Prompts are padded on the left; what an adapter puts before a prompt (vectors of a soft prompt, keys and
values of a prefix) stands before the padding, which is masked and takes no position, so that each prompt is
read as if it were alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.batching import plan
from training.inputs import FORWARD_TOKENS, casting

Ids = list[int]


def greedy(
    model: Any, rows: Sequence[Sequence[int]], *, most: int, ends: Collection[int], pad_id: int
) -> list[Ids]:
    """The most likely continuation of each row of token ids, at most `most` tokens, before any of `ends`.

    `model` is a causal model of transformers, or peft's wrapper around one.
    """
    device = next(model.parameters()).device
    found: list[Ids] = [[] for _ in rows]
    lengths = np.array([len(row) for row in rows])
    model.eval()
    with torch.no_grad(), casting(device):
        for at in plan(lengths + most, FORWARD_TOKENS[device.type], 256, None):
            for place, ids in zip(
                at, _batch(model, [rows[one] for one in at], most, ends, pad_id), strict=True
            ):
                found[place] = ids
    return found


def _batch(
    model: Any, rows: Sequence[Sequence[int]], most: int, ends: Collection[int], pad_id: int
) -> list[Ids]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(base.parameters()).device
    given, mask = _left_padded(rows, pad_id, device)
    before, cache, added = _before(model, len(rows))
    mask = torch.cat([mask.new_ones((len(rows), added)), mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if before is None:
        entering: dict[str, Tensor] = {"input_ids": given}
        positions = positions[:, added:]  # those of a prefix are in the cache
    else:
        entering = {"inputs_embeds": torch.cat([before, base.get_input_embeddings()(given)], dim=1)}
    last = torch.tensor(sorted(ends), device=device)
    open_ = torch.ones(len(rows), dtype=torch.bool, device=device)
    steps: list[Tensor] = []
    for _ in range(most):
        out = base(
            **entering,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,  # of all tokens they would be larger than the model
        )
        token = out.logits[:, -1].argmax(-1)
        open_ &= ~torch.isin(token, last)
        steps.append(torch.where(open_, token, -1))
        if not open_.any():
            break
        cache = out.past_key_values
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        positions = positions[:, -1:] + 1
        entering = {"input_ids": token.unsqueeze(1)}
    table = torch.stack(steps, dim=1).tolist()
    return [[token for token in row if token >= 0] for row in table]


def _before(model: Any, rows: int) -> tuple[Tensor | None, Any, int]:
    """(vectors before the embeddings, cache that is filled already, how many tokens these stand for)."""
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning:
        return None, None, 0
    given = model.get_prompt(rows)
    if isinstance(given, Tensor):
        return given, None, int(given.shape[1])
    return None, given, int(config.num_virtual_tokens)


def _left_padded(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = row
        mask[number, longest - len(row) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
