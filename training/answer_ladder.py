"""Every rung on questions with answers: prompts with worked examples, adapters, all weights.

What a trained rung has to beat is the best prompt, chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prompts.records import Template
from training.answering import Asker, base_of, pool_of, prompted, template_of, tuned
from training.backbone import Backbone, base_digest
from training.climbing import Order, Say, climb
from training.errors import BaseRefused, DataRefused, TrainingRefused
from training.features import Layer, layer_rows
from training.finetuning import RATES
from training.prompting import Rows, Shots
from training.records import Family, Questions, Row, Run, Settings
from training.rungs import Rung, answer_rungs, chosen

# How often a method sees the data, in the ladder's epochs: vectors alone learn little per step.
LONGER = {"soft-prompt": 4.0, "prefix": 4.0, "all": 0.5}
QUICK = {"batch_texts": 8, "batch_tokens": 4_096}  # of a step, on a processor
STEP = {"batch_texts": 16, "batch_tokens": 16_384}
MAX_TOKENS = 1_024  # of a prompt with its answer
NEAREST_TOKENS = 256  # of a question, read to find alike ones


class AnswerLadder:
    """Opens each base once, makes every run that is wanted and not there yet."""

    def __init__(self, order: Order, split: Questions, say: Say) -> None:
        """Raises TrainingRefused for bases or an order that do not fit the task."""
        if order.minutes is not None:
            raise TrainingRefused(
                "--minutes cuts labelled texts only; for answers give --rungs or fewer rows"
            )
        self._order, self._say, self.split = order, say, split
        (order.out / "runs").mkdir(parents=True, exist_ok=True)
        self._folders = _by_family(order)
        self._digests = {family: base_digest(folder) for family, folder in self._folders.items()}
        self.rungs = chosen(
            answer_rungs(seeds=len(order.seeds), shots=order.shots, ranks=order.ranks), order.rungs
        )
        self._sizes = {"max_tokens": order.max_tokens or MAX_TOKENS}
        self._sizes |= STEP if order.device.startswith("cuda") else QUICK
        self._templates = self._wordings()

    def climb(self) -> list[Row]:
        """One row per rung; each prompt in a second wording follows the first."""
        return climb(self.rungs, self._order, self._made_from, self._run, self._say)

    def _run(self, rung: Rung, seed: int) -> Sequence[Run]:
        if rung.kind == "prompt":
            return self._prompted(rung, seed)
        settings = Settings(
            learning_rate=RATES[rung.method],
            epochs=self._order.epochs * LONGER.get(rung.method, 1.0),
            weight_decay=0.0,
            seed=seed,
            **self._sizes,
        )
        folder, template = self._folders["decoder"], next(iter(self._templates.values()))
        return [
            tuned(
                folder, self._order.device, self._asker, template, rung.method, settings, rung.options,
                rung=rung.name,
            )
        ]  # fmt: skip

    def _prompted(self, rung: Rung, seed: int) -> list[Run]:
        shots = Shots(rung.method, rung.options.get("k", 0))  # type: ignore[arg-type]
        model = self._base[0]
        return [
            prompted(model, self._asker, template, shots, rung=f"{rung.name}{suffix}", seed=seed)
            for suffix, template in self._templates.items()
        ]

    def _wordings(self) -> dict[str, Template]:
        """By suffix of the rung's name, the one that training uses first."""
        if self._order.template is not None:
            from prompts.templates import Library

            template = Library.load().get(self._order.template)
            if template.task != "answer":
                raise DataRefused(f"template {template.reference} does not answer questions")
            return {"": template}
        if getattr(self._base[1], "chat_template", None):
            return {"": template_of("chat"), "-plain": template_of("plain")}
        return {"": template_of("plain")}

    @cached_property
    def _base(self) -> tuple[Any, Any]:
        return base_of(self._folders["decoder"], self._order.opened_on)

    @cached_property
    def _asker(self) -> Asker:
        model, tokenizer = self._base
        wanted = any(one.method == "nearest" for one in self.rungs)
        rows = self._unit_rows() if wanted else None
        context = int(model.config.max_position_embeddings)
        return Asker(tokenizer, context, self.split, pool_of(self.split, rows), rows)

    def _unit_rows(self) -> Rows:
        """Vectors of the questions, by the encoder if there is one, else by the middle of the decoder."""
        family: Family = "encoder" if "encoder" in self._folders else "decoder"
        backbone = Backbone(self._folders[family], self._order.device)
        depth = backbone.depth if family == "encoder" else round(0.55 * backbone.depth)
        layer = Layer(depth, "mean")

        def rows(part: str) -> NDArray[np.float32]:
            ids, _ = backbone.encode([one.text for one in getattr(self.split, part)], NEAREST_TOKENS)
            found = layer_rows(backbone, ids, (layer,))[layer]
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
            return np.asarray(found / lengths, dtype=np.float32)

        return Rows(rows("train"), rows("valid"), rows("test"))

    def _made_from(self, rung: Rung, seed: int) -> Sequence[Any]:
        return [
            self.split.digest,
            self._digests,
            asdict(rung) | {"seeds": None},
            seed,
            self._sizes,
            self._order.epochs,
            [template.digest for template in self._templates.values()],
            self._order.device,
        ]


def _by_family(order: Order) -> dict[Family, Path]:
    found: dict[Family, Path] = {}
    for folder in order.bases:
        family = Backbone(folder, "cpu").family
        if family in found:
            raise TrainingRefused(
                f"{folder.name} and {found[family].name} are both {family}s: give one of each"
            )
        found[family] = folder
    if "decoder" not in found:
        raise BaseRefused("answers are written by a decoder: give one with --base")
    return found
