"""Every rung on one split, one result file a run, and what comes out: rows, advice, table, plots.

A run whose result file has the same key (data, base, settings) is not made again. A rung that fails is a row
that says why; the others go on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prompts.errors import PromptError
from training import pace
from training.backbone import Backbone, base_digest
from training.errors import TrainingRefused
from training.features import Layer, Vectors, choose_layer, classify, layers_of, vectors
from training.finetuning import Texts, finetune, settings_for
from training.prompting import Asked, LabelScorer, Rows, Shots, asked, prompted, template_for
from training.records import Cost, Family, Row, Run, Split
from training.rungs import Rung, chosen, rungs

Say = Callable[[str], None]
FORMAT = 1
QUICK = {"max_tokens": 128, "batch_texts": 16, "batch_tokens": 2_048}  # on a processor


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
    template: str | None = None
    only_made: bool = False  # report the runs that are there, make none


class Ladder:
    """Opens each base once, makes every run that is wanted and not there yet."""

    def __init__(self, order: Order, split: Split, say: Say) -> None:
        self._order, self._say = order, say
        self._began = time.monotonic()
        (order.out / "runs").mkdir(parents=True, exist_ok=True)
        self._sizes: dict[str, float] = {} if order.device.startswith("cuda") else dict(QUICK)
        if order.max_tokens is not None:
            self._sizes["max_tokens"] = order.max_tokens
        self.backbones: dict[Family, Backbone] = {}
        for folder in order.bases:
            opened = Backbone(folder, order.device)
            if opened.family in self.backbones:
                raise TrainingRefused(
                    f"{folder.name} and {self.backbones[opened.family].name} are both {opened.family}s: "
                    "a ladder compares methods, so give one encoder and one decoder at most"
                )
            self.backbones[opened.family] = opened
        self._digests = {family: base_digest(one.folder) for family, one in self.backbones.items()}
        depths = {family: one.depth for family, one in self.backbones.items()}
        self.rungs = chosen(rungs(depths, seeds=len(order.seeds), shots=order.shots), order.rungs)
        self.split = split
        if any(one.kind == "prompt" for one in self.rungs):
            self._template = template_for(split, order.template)  # a wrong name is said before hours of work
        self._texts: dict[Family, Texts] = {}
        self._vectors: dict[Family, tuple[Vectors, Layer]] = {}
        if order.minutes is not None:
            self._fit_budget(order.minutes * 60)

    def climb(self) -> list[Row]:
        """One row per rung, in the order of `rungs`; calibrated prompts follow their raw ones."""
        rows: list[Row] = []
        for rung in self.rungs:
            rows += self._rows(rung)
        return rows

    def _rows(self, rung: Rung) -> list[Row]:
        made: dict[str, list[Run]] = {rung.name: []}
        try:
            for seed in self._order.seeds[: rung.seeds]:
                for run in self._run(rung, seed):
                    made.setdefault(run.rung, []).append(run)
        except (TrainingRefused, PromptError) as problem:
            return [Row(rung=rung.name, failed=str(problem), served_by=rung.served_by)]
        except (RuntimeError, ValueError, MemoryError) as problem:  # torch's, peft's, scikit-learn's
            reason = f"{type(problem).__name__}: {str(problem).splitlines()[0][:200]}"
            self._say(f"{rung.name}: failed, {reason}")
            return [Row(rung=rung.name, failed=reason, served_by=rung.served_by)]
        if not made[rung.name]:
            return [Row(rung=rung.name, failed="not made yet", served_by=rung.served_by)]
        return [Row(rung=name, runs=tuple(some), served_by=rung.served_by) for name, some in made.items()]

    def _run(self, rung: Rung, seed: int) -> Sequence[Run]:
        path = self._order.out / "runs" / f"{rung.name.replace('/', '-')}-{seed}.json"
        key = self._key(rung, seed)
        if (found := read_runs(path, key)) is not None:
            self._say(f"{rung.name} seed {seed}: kept from before")
            return found
        if self._order.only_made:
            return []
        began = time.monotonic()
        made = {"prompt": self._prompted, "features": self._features, "network": self._network}[rung.kind](
            rung, seed
        )
        write_runs(path, key, made)
        self._say(
            f"{rung.name} seed {seed}: validation {made[0].valid:.4f}, test {made[0].accuracy:.4f}, "
            f"{time.monotonic() - began:.0f} s"
        )
        return made

    def _network(self, rung: Rung, seed: int) -> list[Run]:
        settings = replace(settings_for(rung.method, seed, epochs=self._epochs(rung)), **self._sizes)  # type: ignore[arg-type]
        texts = self._texts_of(rung.base)
        run = finetune(texts, rung.method, settings, rung=rung.name, pooling="mean", options=rung.options)
        depth = texts.backbone.depth
        return [replace(run, settings={**run.settings, "depth": depth})]

    def _epochs(self, rung: Rung) -> float:
        """Methods that learn little per step see the data more often, the cheap output layers most."""
        return self._order.epochs * {"output-layers": 8, "soft-prompt": 1.5, "prefix": 1.5}.get(
            rung.method, 1
        )

    def _features(self, rung: Rung, seed: int) -> list[Run]:
        found, layer = self._vectors_of(rung.base)
        run, _ = classify(self._texts_of(rung.base), found, layer, rung.method, rung=rung.name, seed=seed)
        return [run]

    def _prompted(self, rung: Rung, seed: int) -> list[Run]:
        scorer, given = self._prompting
        shots = Shots(rung.method, rung.options.get("k", 0))  # type: ignore[arg-type]
        return list(prompted(scorer, given, self._template, shots, rung=rung.name, seed=seed))

    @cached_property
    def _prompting(self) -> tuple[LabelScorer, Asked]:
        scorer = LabelScorer(self.backbones["decoder"].folder, self._order.device)
        near: Family = "encoder" if "encoder" in self.backbones else "decoder"
        wanted = any(one.method == "nearest" for one in self.rungs)
        given = asked(scorer, self.split, self._unit_rows(near) if wanted else None)
        return scorer, given

    def _texts_of(self, family: Family) -> Texts:
        if family not in self._texts:
            most = int(self._sizes.get("max_tokens", 512))
            self._texts[family] = Texts(self.backbones[family], self.split, most)
        return self._texts[family]

    def _vectors_of(self, family: Family) -> tuple[Vectors, Layer]:
        if family not in self._vectors:
            texts = self._texts_of(family)
            found = vectors(texts, layers_of(texts.backbone))
            self._vectors[family] = found, choose_layer(texts, found)[0]
        return self._vectors[family]

    def _unit_rows(self, family: Family) -> Rows:
        found, layer = self._vectors_of(family)
        parts = (found.train[layer], found.valid[layer], found.test[layer])
        return Rows(*(one / np.linalg.norm(one, axis=1, keepdims=True) for one in parts))

    def _fit_budget(self, seconds: float) -> None:
        """Cuts the data to what fits the time; says so."""
        some = replace(
            self.split, train=self.split.train[:256], valid=self.split.valid[:1], test=self.split.test[:1]
        )
        paces = {}
        for family, backbone in self.backbones.items():
            settings = replace(settings_for("all", 0), **self._sizes)  # type: ignore[arg-type]
            paces[family] = pace.measure(Texts(backbone, some, settings.max_tokens), settings)
        whole = self.split
        left = seconds - (time.monotonic() - self._began)
        self.split = pace.cut(whole, self.rungs, paces, self._order.epochs, left)
        counts = [
            (len(part), len(all_))
            for part, all_ in zip(
                (self.split.train, self.split.valid, self.split.test),
                (whole.train, whole.valid, whole.test),
                strict=True,
            )
        ]
        self._say(
            f"{seconds / 60:g} minutes allow "
            + ", ".join(
                f"{n:,} of {m:,} {what}"
                for (n, m), what in zip(counts, ("train", "valid", "test"), strict=True)
            )
        )

    def _key(self, rung: Rung, seed: int) -> str:
        parts = [
            self.split.digest,
            [len(part) for part in (self.split.train, self.split.valid, self.split.test)],
            self._digests[rung.base],
            asdict(rung) | {"seeds": None},
            seed,
            self._sizes,
            self._order.epochs,
            self._order.template,
            self._order.device,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


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
    """The test results as a string of 0 and 1."""
    return asdict(run) | {"test": "".join("01"[right] for right in run.test)}


def from_json(row: Mapping[str, Any]) -> Run:
    curve = tuple((int(step), float(loss), float(valid)) for step, loss, valid in row["curve"])
    test = tuple(one == "1" for one in row["test"])
    return Run(**{**row, "test": test, "cost": Cost(**row["cost"]), "curve": curve})
