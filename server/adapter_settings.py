"""The settings that are of adapters alone."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from server.section import Section

LoraRank = Annotated[
    Literal[1, 8, 16, 32, 64, 128, 256, 320, 512],  # that vLLM sets memory aside for
    BeforeValidator(lambda value: int(value) if str(value).isdigit() else value),  # a variable is text
]


class Adapters(Section):
    inbox: Path | None = Field(
        None, description="the only folder that /v1/adapters takes folders from; default <data>/inbox"
    )
    full_models: int = Field(
        0, ge=0, description="models with weights of their own (full, merged (IA)³) served beside the base"
    )
    full_kv_cache_bytes: int = Field(2**30, ge=2**20, description="KV cache of each of them")
    bytes: int = Field(2 * 2**30, ge=1024, description="of all files of one adapter, at most")
