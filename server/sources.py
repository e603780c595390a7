"""What a search found, as the prompt numbers it, and what the answer cites of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

NONE: Mapping[str, str | float | bool] = MappingProxyType({})


class SourceUse(NamedTuple):
    """One retrieved chunk and what became of it."""

    n: int  # its number in the prompt; 0 when it did not fit
    file_id: str
    filename: str
    store_id: str
    chunk_id: str
    title: str
    text: str
    score: float
    page_start: int | None
    page_end: int | None
    char_start: int
    char_end: int
    external_id: str | None = None
    attributes: Mapping[str, str | float | bool] = NONE
    generation: int = 0

    @property
    def used(self) -> bool:
        return self.n > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A marker of the answer that names a source of the prompt. Offsets are half-open code points."""

    source: SourceUse
    marker_start: int
    marker_end: int
    answer_start: int  # the sentence the marker closes
    answer_end: int
    check: Literal["span", "chunk"] = "chunk"
    support: float | None = None  # share of the sentence that was located, 0 … 1
    char_start: int  # in the source's extracted text
    char_end: int
