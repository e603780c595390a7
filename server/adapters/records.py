"""What the rest of the package passes around."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# Every kind that training writes. The engine host says which of them it can serve.
Kind = Literal[
    "lora", "lora-classifier", "soft-prompt", "prefix", "ia3", "bottleneck", "delta", "full", "features",
    "reward",
]  # fmt: skip
State = Literal["available", "loading", "loaded", "draining", "failed"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str  # F32, F16, BF16 …
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model an adapter must fit, read from its folder without loading a weight."""

    name: str  # as served
    digest: str
    hidden: int
    layers: int
    kv_heads: int
    head_dim: int
    shapes: Mapping[str, tuple[int, ...]]  # of every weight, by its name in the checkpoint
    config: Mapping[str, Any] = field(default_factory=dict)  # config.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A folder that passed every check. Immutable: other bytes are another version."""

    name: str
    version: str  # first 12 hex digits of `digest`
    kind: Kind
    digest: str  # sha256 over the files, the kind and the base's digest
    base: str  # digest of the base model
    folder: Path
    bytes: int
    length: int  # rank of a LoRA; tokens of a soft prompt or prefix; else 0
    created: float  # seconds since the epoch
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def added_tokens(self) -> int:
        """Positions that it takes of the context, before the prompt's own."""
        return self.length if self.kind in ("soft-prompt", "prefix") else 0
