"""Every rung on labelled texts: each base is opened once, each run made once (`training.climbing`)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np

from training import pace
from training.backbone import Backbone, base_digest
from training.climbing import Order, Say, climb
from training.errors import TrainingRefused
from training.features import Layer, Vectors, choose_layer, classify, layers_of, vectors
from training.finetuning import Texts, finetune, settings_for
from training.prompting import Asked, LabelScorer, Rows, Shots, asked, prompted, template_for
from training.records import Family, Row, Run, Split
from training.rungs import Rung, chosen, rungs

QUICK = {"max_tokens": 128, "batch_texts": 16, "batch_tokens": 2_048}  # on a processor


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
            opened = Backbone(folder, order.opened_on)
            if opened.family in self.backbones:
                raise TrainingRefused(
                    f"{folder.name} and {self.backbones[opened.family].name} are both {opened.family}s: "
                    "a ladder compares methods, so give one encoder and one decoder at most"
                )
            self.backbones[opened.family] = opened
        self._digests = {family: base_digest(one.folder) for family, one in self.backbones.items()}
        depths = {family: one.depth for family, one in self.backbones.items()}
        self.rungs = chosen(
            rungs(depths, seeds=len(order.seeds), shots=order.shots, ranks=order.ranks), order.rungs
        )
        self.split = split
        if any(one.kind == "prompt" for one in self.rungs):
            self._template = template_for(split, order.template)  # a wrong name is said before hours of work
        self._texts: dict[Family, Texts] = {}
        self._vectors: dict[Family, tuple[Vectors, Layer]] = {}
        self._left_out: list[tuple[Rung, float]] = []
        if order.minutes is not None:
            self._fit_budget(order.minutes * 60)

    def climb(self) -> list[Row]:
        """One row per rung, in the order of `rungs`; calibrated prompts follow their raw ones."""
        until = math.inf if self._order.minutes is None else self._began + self._order.minutes * 60
        rows = climb(self.rungs, self._order, self._made_from, self._run, self._say, until=until)
        return rows + [
            Row(
                rung=one.name,
                served_by=one.served_by,
                failed=f"it alone takes about {seconds / 60:.0f} min here",
            )
            for one, seconds in self._left_out
        ]

    def _run(self, rung: Rung, seed: int) -> Sequence[Run]:
        return {"prompt": self._prompted, "features": self._features, "network": self._network}[rung.kind](
            rung, seed
        )

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
        """Cuts data, seeds and rungs to what fits the time; says so."""
        path = self._order.out / "plan.json"
        wanted = [self.split.digest, seconds, [asdict(one) for one in self.rungs], self._digests, self._sizes]
        key = hashlib.sha256(
            json.dumps([*wanted, self._order.epochs, self._order.device], sort_keys=True).encode()
        ).hexdigest()
        plan = pace.remembered(path, key)
        if plan is None:
            left = seconds - (time.monotonic() - self._began)
            plan = pace.planned(self.split, self.rungs, self._paces(), self._order.epochs, left)
            pace.remember(path, key, plan)
        whole, every = self.split, self.rungs
        self.split, self.rungs = plan.cut(whole), plan.of(every)
        self._left_out = [(one, plan.left_out[one.name]) for one in every if one.name in plan.left_out]
        parts = zip(
            plan.texts, (whole.train, whole.valid, whole.test), ("train", "valid", "test"), strict=True
        )
        self._say(
            f"{seconds / 60:g} minutes allow "
            + ", ".join(f"{count:,} of {len(all_):,} {what}" for count, all_, what in parts)
            + f", {plan.seeds} of {len(self._order.seeds)} seeds"
        )
        if plan.left_out:
            self._say("left out for the time they take: " + ", ".join(plan.left_out))

    def _paces(self) -> dict[Family, pace.Pace]:
        """A few real steps of each base."""
        some = replace(
            self.split, train=self.split.train[:256], valid=self.split.valid[:1], test=self.split.test[:1]
        )
        paces = {}
        for family, backbone in self.backbones.items():
            settings = replace(settings_for("all", 0), **self._sizes)  # type: ignore[arg-type]
            paces[family] = pace.measure(Texts(backbone, some, settings.max_tokens), settings)
        return paces

    def _made_from(self, rung: Rung, seed: int) -> Sequence[Any]:
        return [
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
