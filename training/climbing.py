"""A ladder's runs, a result file each: what has the same key (data, base, settings) is not made again.

A rung that fails is a row that says why; the others go on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prompts.errors import PromptError
from training.errors import TrainingRefused
from training.records import Cost, Row, Run
from training.rungs import Rung

Say = Callable[[str], None]
Make = Callable[[Rung, int], Sequence[Run]]  # a rung and a seed → its runs, the first under the rung's name
MadeFrom = Callable[[Rung, int], Sequence[Any]]  # everything that decides a result, in plain values
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for."""

    bases: tuple[Path, ...]
    out: Path
    device: str
    seeds: tuple[int, ...] = (11, 23, 37)
    rungs: tuple[str, ...] = ()
    minutes: float | None = None
    epochs: float = 2.0
    max_tokens: int | None = None
    shots: tuple[int, ...] = (4,)
    ranks: tuple[int, ...] = (8,)  # of the LoRA rungs
    template: str | None = None
    only_made: bool = False  # report the runs that are there, make none

    @property
    def opened_on(self) -> str:
        """Where bases are opened: a report of runs that a card made needs none."""
        return "cpu" if self.only_made else self.device


def climb(
    rungs: Sequence[Rung],
    order: Order,
    made_from: MadeFrom,
    make: Make,
    say: Say,
    *,
    until: float = math.inf,
) -> list[Row]:
    """One row per rung, in the order of `rungs`; further runs that a rung makes follow it as rows.

    No run is begun after `until` on the monotonic clock.
    """
    rows: list[Row] = []
    for rung in rungs:
        rows += _rows(rung, order, made_from, make, say, until)
    return rows


def _rows(rung: Rung, order: Order, made_from: MadeFrom, make: Make, say: Say, until: float) -> list[Row]:
    made: dict[str, list[Run]] = {rung.name: []}
    try:
        for seed in order.seeds[: rung.seeds]:
            for run in _runs(rung, seed, order, made_from, make, say, until):
                made.setdefault(run.rung, []).append(run)
    except (TrainingRefused, PromptError) as problem:
        return [Row(rung=rung.name, failed=str(problem), served_by=rung.served_by)]
    except (RuntimeError, ValueError, MemoryError) as problem:  # torch's, peft's, scikit-learn's
        reason = f"{type(problem).__name__}: {str(problem).splitlines()[0][:200]}"
        say(f"{rung.name}: failed, {reason}")
        return [Row(rung=rung.name, failed=reason, served_by=rung.served_by)]
    if not made[rung.name]:
        missing = "not made yet" if order.only_made else "the time was up before it"
        return [Row(rung=rung.name, failed=missing, served_by=rung.served_by)]
    return [Row(rung=name, runs=tuple(some), served_by=rung.served_by) for name, some in made.items()]


def _runs(
    rung: Rung, seed: int, order: Order, made_from: MadeFrom, make: Make, say: Say, until: float
) -> Sequence[Run]:
    path = order.out / "runs" / f"{rung.name.replace('/', '-')}-{seed}.json"
    key = hashlib.sha256(json.dumps(made_from(rung, seed), sort_keys=True, default=str).encode()).hexdigest()
    if (found := read_runs(path, key)) is not None:
        say(f"{rung.name} seed {seed}: kept from before")
        return found
    if order.only_made or time.monotonic() > until:
        return []
    began = time.monotonic()
    made = make(rung, seed)
    write_runs(path, key, made)
    say(
        f"{rung.name} seed {seed}: validation {made[0].valid:.4f}, test {made[0].score:.4f}, "
        f"{time.monotonic() - began:.0f} s"
    )
    return made


def write_runs(path: Path, key: str, runs: Sequence[Run]) -> None:
    """Written aside and renamed, so that an interrupted ladder leaves whole files only."""
    scratch = path.with_suffix(".writing")
    scratch.write_text(json.dumps({"format": FORMAT, "key": key, "runs": [as_json(run) for run in runs]}))
    os.replace(scratch, path)


def read_runs(path: Path, key: str) -> list[Run] | None:
    """None when there is no such file, it is not readable, or it was made from something else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if found.get("format") != FORMAT or found.get("key") != key:
        return None
    return [from_json(run) for run in found["runs"]]


def as_json(run: Run) -> dict[str, Any]:
    """Test results that are right or wrong as a string of 0 and 1, graded ones as numbers."""
    whole = all(score in (0, 1) for score in run.test) and run.exact_match is None
    return asdict(run) | {"test": "".join(str(int(score)) for score in run.test) if whole else run.test}


def from_json(row: Mapping[str, Any]) -> Run:
    curve = tuple((int(step), float(loss), float(valid)) for step, loss, valid in row["curve"])
    test = tuple(float(one) for one in row["test"])
    return Run(**{**row, "test": test, "cost": Cost(**row["cost"]), "curve": curve})
