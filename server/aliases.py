"""Names that stand for a way to answer: a model with template, stores, demos, sampling and grounding policy.

The operator binds them in `fewshot.toml`; callers use one where a model is named. What a request says goes
before what its alias says, which goes before the template and the settings. What the alias locks, a request
may not say.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prompts.errors import UnknownTemplate
from prompts.records import Template, WhenEmpty
from prompts.templates import Library
from server.records import Markers, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """One name, bound. None, or nothing, leaves the choice to whoever comes next."""

    name: str
    model: str  # served name of the base model, or a name that adapters give
    tenant: str | None = None  # whose name it is; None: everybody's
    template: str | None = None  # name or name@version
    variables: Mapping[str, str] = field(default_factory=dict)
    vector_stores: tuple[str, ...] = ()
    top: int | None = None
    score_threshold: float | None = None
    demos: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    when_empty: WhenEmpty | None = None
    refusal_text: str | None = None
    citations: Markers | None = None
    lock: frozenset[str] = frozenset()

    @property
    def bound(self) -> dict[str, Any]:
        """What it stands for, without what it leaves open; /v1/models shows it."""
        said = {
            name: getattr(self, name)
            for name in (
                *("template", "variables", "vector_stores", "top", "score_threshold", "demos"),
                *("max_tokens", "when_empty", "refusal_text", "citations"),
            )
        }
        sampling = {
            name: value for name in Sampling.__slots__ if (value := getattr(self.sampling, name)) is not None
        }
        said |= {"sampling": sampling, "lock": sorted(self.lock)}
        said |= {"vector_stores": list(self.vector_stores), "variables": dict(self.variables)}
        return {name: value for name, value in said.items() if value not in (None, {}, [])}

    def problems(
        self, library: Library, *, served: str, has_demos: bool, adapters: bool = False
    ) -> Iterator[str]:
        """What keeps it from ever answering, in words."""
        if self.name == served:
            yield "is the name of the model itself; choose another"
        if self.model != served and not adapters:
            yield f"stands for the model {self.model!r}, but this server serves {served!r} and no adapters"
        if self.demos and not has_demos:
            yield "wants worked examples, but there are none: name a JSONL file of them in paths.demos"
        if self.template is None:
            if self.variables:
                yield "has variables but no template"
            return
        try:
            template = library.get(self.template)
        except UnknownTemplate as problem:
            yield str(problem)
            return
        yield from self._unfit(template)

    def _unfit(self, template: Template) -> Iterator[str]:
        if self.vector_stores and not template.takes_sources:
            yield f"has stores, but template {template.reference} has no place for sources"
        if self.demos and not template.takes_demos:
            yield f"wants worked examples, but template {template.reference} has no place for them"
        if undeclared := sorted(self.variables.keys() - template.slots.keys()):
            yield f"has values for slots that template {template.reference} lacks: {', '.join(undeclared)}"


class Aliases:
    """All aliases there are. What belongs to another tenant is not there."""

    def __init__(self, aliases: Iterable[Alias] = ()) -> None:
        self._aliases = tuple(aliases)

    def of(self, tenant: str) -> Mapping[str, Alias]:
        """By name, those that this tenant may use."""
        return {alias.name: alias for alias in self._aliases if alias.tenant in (None, tenant)}

    def problems(
        self, library: Library, *, served: str, has_demos: bool, adapters: bool = False
    ) -> list[str]:
        """Everything wrong with any of them, for the operator to read at the start."""
        return [
            f"aliases.{alias.name} {problem}"
            for alias in self._aliases
            for problem in alias.problems(library, served=served, has_demos=has_demos, adapters=adapters)
        ]
