"""Which rungs a ladder has: a name, how it is made, how its result is served, what it costs to train."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from training.errors import DataRefused
from training.records import Family

NOT_LIVE = "not served live: a forward hook of ours, no engine runs it"
SERVED = {
    "prompt": "a template and its examples, in the arm",
    "features": "a classifier on vectors, in the server's process",
    "output-layers": "a head on vectors, in the server's process",
    "last-n": "reload of changed weights, or a second engine",
    "all": "reload of all weights, or a second engine",
    "lora": "hot-loaded adapter, mixes in a batch",
    "ia3": "merged, then as all weights",
    "soft-prompt": "rows of the embedding matrix, mixes in a batch",
    "prefix": "key-value connector, mixes in a batch",
    "bottleneck": NOT_LIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    name: str
    kind: Literal["prompt", "features", "network"]
    method: str  # of training.networks, a classifier of training.features, or a strategy of examples
    base: Family
    options: Mapping[str, int] = field(default_factory=dict)
    seeds: int = 3
    share: float = 0.0  # of a full training pass (forward and backward through all blocks), per epoch

    @property
    def served_by(self) -> str:
        return SERVED[self.method if self.kind == "network" else self.kind]


def rungs(
    depths: Mapping[Family, int], *, seeds: int, shots: Sequence[int] = (4,), ranks: Sequence[int] = (8,)
) -> list[Rung]:
    """Every rung that these bases allow, the cheap ones first.

    `depths`: blocks of each base; `ranks`: of the LoRA rungs, one each.
    """
    found = _prompts(seeds, shots) if "decoder" in depths else []
    for base in depths:
        for classifier in ("lr", "gb", "rf"):
            name = f"{base}/features-{classifier}"
            draws = 1 if classifier == "lr" else seeds  # logistic regression has one solution
            found.append(Rung(name=name, kind="features", method=classifier, base=base, seeds=draws))
    for base, depth in depths.items():
        found.append(_network(base, "output-layers", seeds, 0.0))
        for n in sweep(depth):
            found.append(_network(base, "last-n", seeds, n / depth, f"last-{n}", {"n": n}))
    for base in depths:
        found.append(_network(base, "bottleneck", seeds, 0.75, options={"width": 24}))
        found.append(_network(base, "ia3", seeds, 0.75))
        found += _loras(base, seeds, ranks)
        found.append(_network(base, "soft-prompt", seeds, 0.75, options={"tokens": 20}))
        if base == "decoder":
            found.append(_network(base, "prefix", seeds, 0.75, options={"tokens": 16}))
        found.append(_network(base, "all", seeds, 1.0))
    return found


def answer_rungs(*, seeds: int, shots: Sequence[int] = (4,), ranks: Sequence[int] = (8,)) -> list[Rung]:
    """Every rung that answers questions, the cheap ones first."""
    found = _prompts(seeds, shots)
    found.append(_network("decoder", "soft-prompt", seeds, 0.75, options={"tokens": 32}))
    found.append(_network("decoder", "prefix", seeds, 0.75, options={"tokens": 32}))
    found += _loras("decoder", seeds, ranks)
    found.append(_network("decoder", "all", seeds, 1.0))
    return found


def sweep(depth: int) -> list[int]:
    """How many last blocks the layerwise experiment trains: every count, or some of a deep model."""
    if depth <= 8:
        return list(range(1, depth))
    return sorted({1, 2, 3, round(depth / 6), round(depth / 3), round(depth * 2 / 3)})


def chosen(found: Sequence[Rung], patterns: Sequence[str]) -> list[Rung]:
    """Those whose names match one of the shell patterns; all without patterns.

    Raises DataRefused for a pattern that matches nothing.
    """
    if not patterns:
        return list(found)
    for pattern in patterns:
        if not any(fnmatch.fnmatch(one.name, pattern) for one in found):
            raise DataRefused(
                f"no rung is called {pattern!r}; there are {', '.join(one.name for one in found)}"
            )
    return [one for one in found if any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns)]


def _prompts(seeds: int, shots: Sequence[int]) -> list[Rung]:
    found = [Rung(name="zero-shot", kind="prompt", method="none", base="decoder", seeds=1)]
    for count in shots:
        for method, draws in (("random", seeds), ("nearest", 1)):
            name, options = f"few-shot-{method}-{count}", {"k": count}
            found.append(
                Rung(name=name, kind="prompt", method=method, base="decoder", options=options, seeds=draws)
            )
    return found


def _loras(base: Family, seeds: int, ranks: Sequence[int]) -> list[Rung]:
    return [_network(base, "lora", seeds, 0.8, f"lora-r{rank}", {"rank": rank}) for rank in sorted(ranks)]


def _network(
    base: Family,
    method: str,
    seeds: int,
    share: float,
    name: str | None = None,
    options: Mapping[str, int] | None = None,
) -> Rung:
    return Rung(
        name=f"{base}/{name or method}",
        kind="network",
        method=method,
        base=base,
        options=options or {},
        seeds=seeds,
        share=share,
    )
