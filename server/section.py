"""What every table of fewshot.toml is: strict about its keys, frozen."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Any) -> Any:
    return value.replace(",", " ").split() if isinstance(value, str) else value  # of a variable


Origin = Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.:\[\]-]+)$")]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_listed)]
