"""Candidates: next versions of one template, and the book of what was asked of the model about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prompts.errors import TemplateInvalid
from prompts.parsing import parse
from prompts.records import Demo, Template
from prompts.search.splits import Splits
from prompts.search.wording import LONGEST, changed, instruction_of, leaks


class Judge(Protocol):
    """The model that answers."""

    def right(
        self, template: Template, items: Sequence[Demo], shown: Sequence[Sequence[Demo]] | None = None
    ) -> list[float]:
        """1 where the answer to an item is its own, else 0. `shown`: examples picked for each item."""
        ...

    def tokens(self, template: Template, item: Demo) -> int:
        """Of the item's prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    proposer: str  # original | paraphrase | induce | ablate | combine
    template: Template
    source: bytes  # its file


@dataclass(slots=True)
class Ledger:
    """What was asked and what it cost. The same candidate on the same item is paid for once."""

    judge: Judge
    spent: int = 0  # prompt tokens
    known: dict[tuple[str, str], float] = field(default_factory=dict)  # (digest, item) → right
    curve: list[dict[str, Any]] = field(default_factory=list)

    def right(self, template: Template, items: Sequence[Demo]) -> list[float]:
        fresh = [item for item in items if (template.digest, item.id) not in self.known]
        if fresh:
            self.spent += sum(self.judge.tokens(template, item) for item in fresh)
            for item, score in zip(fresh, self.judge.right(template, fresh), strict=True):
                self.known[template.digest, item.id] = score
        return [self.known[template.digest, item.id] for item in items]


class Maker:
    """Makes candidates of the template, or says why something is none."""

    def __init__(self, table: Mapping[str, Any], splits: Splits, judge: Judge) -> None:
        self.table, self.splits, self.judge = table, splits, judge
        self.system = str(table.get("parts", {}).get("system", "")).strip("\n")
        self.instruction = instruction_of(self.system)
        self.version = int(table["version"]) + 1
        self.demos = _own_demos(table)
        self.refused: dict[str, str] = {}
        self._tokens: int | None = None
        self._inputs = [item.input for item in (*splits.search, *splits.held_out)]

    def make(self, name: str, proposer: str, system: str, demos: Sequence[Demo]) -> Candidate | None:
        source = changed(self.table, version=self.version, system=system, demos=demos)
        try:
            template = parse(source, name)
        except TemplateInvalid as problem:
            self.refused[system] = str(problem)
            return None
        item = self.splits.search[0]
        bare = self.judge.tokens(parse(changed(self.table, version=1, system=system, demos=()), name), item)
        if self._tokens is None:  # the original comes first
            self._tokens = bare
        if bare > LONGEST * self._tokens:
            self.refused[system] = f"{bare} tokens, more than {LONGEST:g} times the original's {self._tokens}"
            return None
        if leaked := leaks(system, self.system, self._inputs):
            self.refused[system] = f"it repeats an item: {leaked!r}"
            return None
        return Candidate(name, proposer, template, source)


def _own_demos(table: Mapping[str, Any]) -> tuple[Demo, ...]:
    rows = table.get("demos", [])
    return tuple(
        Demo(f"template-{at}", row["input"], row["output"], row.get("label"))
        for at, row in enumerate(rows, 1)
    )
