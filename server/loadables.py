"""What the engine is handed to load, and what a request remembers of the adapter it runs on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loadable:
    """A checked version on its way into the engine."""

    reference: str  # name@version, which is also what the engine calls it
    number: int  # from 1, of this version alone, for ever
    kind: str  # lora | soft-prompt | prefix | full | delta | ia3 | bottleneck
    folder: Path
    length: int  # rank of a LoRA; tokens of a soft prompt or prefix; else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUse:
    """The adapter that a request was resolved to; it stays with the request to its end."""

    reference: str
    kind: str
    sha256: str  # digest of the artefact
    added_tokens: int = 0  # positions that it takes before every prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateUse:
    """The template that a prompt was laid out by."""

    name: str
    version: str
    sha256: str
