"""What the server must know of the model that it decodes with, and of what that runs on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from server.loadables import AdapterUse
from server.records import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What the server must know of the model it decodes with."""

    name: str
    sha256: str  # of the folder's manifest
    context_tokens: int
    vocabulary: int
    engine: str  # "vllm" | "echo"
    engine_version: str
    dtype: str
    created: int
    special_tokens: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)  # the model's own generation config
    device: str = ""  # what it runs on: "cpu", the card's name
    flags: Mapping[str, bool | int | str] = field(default_factory=dict)  # that rounding may depend on
    adapter: AdapterUse | None = None  # whose positions context_tokens is already without

    @property
    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: changes when engine, weights, number format or adapter change."""
        made_of = f"{self.engine}\0{self.engine_version}\0{self.sha256}\0{self.dtype}"
        made_of += f"\0{self.adapter.sha256}" if self.adapter else ""
        return _fingerprint(made_of)


@lru_cache(maxsize=1024)  # asked for with every request
def _fingerprint(made_of: str) -> str:
    return f"fp_{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
