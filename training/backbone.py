"""A pretrained transformer as every rung sees it: tokenizer, numbered blocks, one way to run a part of them.

`Backbone.above(k)` runs blocks k… on hidden states that were computed before: what lies below is frozen, so
it is computed once for all epochs and seeds. It needs no knowledge of a family beyond where its blocks are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import BaseRefused
from training.records import Family, Pooling

_BLOCKS = ("layers", "encoder.layer", "transformer.layer", "h", "encoder.layers")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer.json")


class Backbone:
    """The body of a model without a head, in float32; the trainer casts where the card gains by it."""

    def __init__(self, folder: Path, device: str) -> None:
        """Raises BaseRefused when the folder holds no transformer that can be run block by block."""
        from transformers import AutoModel, AutoTokenizer

        if not (folder / "config.json").is_file():
            raise BaseRefused(f"{folder} is no model folder (no config.json): run `fewshot models fetch`")
        self.folder, self.device = folder, torch.device(device)
        try:
            self.model: Any = AutoModel.from_pretrained(
                str(folder), local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
            )
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as problem:
            raise BaseRefused(f"{folder} cannot be loaded: {str(problem).splitlines()[0]}") from problem
        self.model.to(self.device).eval().requires_grad_(False)
        self._owner, self._name = _find_blocks(self.model, folder)
        self.parameters = sum(one.numel() for one in self.model.parameters())  # before anything is added
        config = self.model.config
        if hasattr(config, "use_cache"):
            config.use_cache = False
        self.hidden = int(config.hidden_size if hasattr(config, "hidden_size") else config.dim)
        causal = bool(getattr(config, "is_decoder", False)) or self._name == "layers" or self._name == "h"
        self.family: Family = "decoder" if causal else "encoder"
        self.context_tokens = int(getattr(config, "max_position_embeddings", 512))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def blocks(self) -> nn.ModuleList:
        found: nn.ModuleList = getattr(self._owner, self._name)
        return found

    @property
    def depth(self) -> int:
        return len(self.blocks)

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[list[list[int]], float]:
        """Token ids of each text, special tokens included, and the share of texts that were cut."""
        room = min(max_tokens, self.context_tokens)
        rows: list[list[int]] = self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        long = [at for at, row in enumerate(rows) if len(row) > room]
        if long:
            cut = self.tokenizer([texts[at] for at in long], truncation=True, max_length=room)["input_ids"]
            for at, row in zip(long, cut, strict=True):
                rows[at] = row
        nothing = [self.tokenizer.eos_token_id or 0]  # a text without a token still is a row
        return [row or nothing for row in rows], len(long) / max(1, len(rows))

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states, shape (texts, tokens, hidden), after the final norm where there is one."""
        out: Tensor = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return out

    def all_states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Hidden states after the embeddings and after each block: depth + 1 tensors as of `states`."""
        found: tuple[Tensor, ...] = self.model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True
        ).hidden_states
        return found

    def below(self, k: int, ids: Tensor, mask: Tensor) -> Tensor:
        """What enters block k, shape (texts, tokens, hidden); k = depth gives `states`."""
        if k >= self.depth:
            return self.states(ids, mask)
        caught: list[Tensor] = []

        def catch(module: nn.Module, args: Any, kwargs: Any) -> None:
            caught.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        handle = self.blocks[k].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            self.model(input_ids=ids, attention_mask=mask)
        except _Reached:
            pass
        finally:
            handle.remove()
        return caught[0]

    @contextmanager
    def above(self, k: int) -> Iterator[Any]:
        """A function (entering states, mask) → last hidden states, that runs blocks k… only."""
        whole, owner = self.blocks, self._owner
        embeddings = getattr(self.model, "embeddings", None)
        setattr(owner, self._name, nn.ModuleList(list(whole)[k:]))
        if embeddings is not None:
            self.model.embeddings = _Through()

        def run(states: Tensor, mask: Tensor) -> Tensor:
            if k >= len(whole):
                return states
            out: Tensor = self.model(inputs_embeds=states, attention_mask=mask).last_hidden_state
            return out

        try:
            yield run
        finally:
            setattr(owner, self._name, whole)
            if embeddings is not None:
                self.model.embeddings = embeddings


class _Reached(Exception):
    """Control flow: the block was reached, nothing above it is wanted."""


class _Through(nn.Module):
    """In the place of embeddings: what comes in is embedded already."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> Tensor:
        return inputs_embeds


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One row a text, shape (texts, hidden), float32. Padding must stand on the right."""
    states = states.float()
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


def base_digest(folder: Path) -> str:
    """SHA-256 over names and contents of what decides the model: config, tokenizer, weights."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _find_blocks(model: nn.Module, folder: Path) -> tuple[nn.Module, str]:
    for path in _BLOCKS:
        owner: Any = model
        *above, name = path.split(".")
        for step in above:
            owner = getattr(owner, step, None)
        if isinstance(getattr(owner, name, None), nn.ModuleList):
            return owner, name
    raise BaseRefused(
        f"{folder.name}: a {type(model).__name__} has no list of blocks that is known here "
        f"({', '.join(_BLOCKS)}); use a BERT-, DistilBERT- or Llama-like model"
    )
