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
    bytes: int = Field(2 * 2**30, ge=1024, description="of all files of one adapter, at most")
