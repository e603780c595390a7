"""How much a time budget buys on this machine: a few real steps are timed, the data is cut to fit.

When the least data is still too much, one seed is run instead of several, and then the dearest rungs are left
out, by name and with what they would have taken.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from training.batching import plan
from training.classification import Classifier
from training.data import drawn
from training.finetuning import Texts, labels_of, trainable
from training.inputs import prepared
from training.loop import train
from training.records import Family, Settings, Split
from training.rungs import Rung

FORWARD = 1 / 3  # of a training pass: the backward pass costs two forward ones
SPARE = 0.8  # of the budget is planned for
LEAST_TRAIN, LEAST_TEST, LEAST_VALID = 200, 200, 64
MOST_TEST, MOST_VALID = 1_000, 300  # when there is a budget
TRIAL_STEPS = 4


class Pace(NamedTuple):
    """Tokens per second of full training steps, and tokens of an average text."""

    tokens_per_second: float
    tokens_per_text: float


def measure(texts: Texts, settings: Settings) -> Pace:
    """Times a few steps of training all layers; the weights are put back."""
    rows = texts.train[:256]
    lengths = [len(row) for row in rows]
    inputs = prepared(texts.backbone, rows, 0, pooling="mean")
    labels = labels_of(texts.split.train)[:256]
    batches = plan(inputs.lengths, settings.batch_tokens, settings.batch_texts, settings.seed)
    trial = replace(settings, epochs=TRIAL_STEPS / len(batches), checks=1)
    with trainable(texts.backbone, "all", len(texts.split.labels), trial, "mean", {}) as network:
        began = time.perf_counter()
        valid = prepared(texts.backbone, rows[:1], 0, pooling="mean")
        done = train(Classifier(network, inputs, labels, valid, labels[:1]), trial)
        seconds = done.seconds or time.perf_counter() - began
    steps = min(TRIAL_STEPS, len(batches))
    tokens = sum(lengths[at] for batch in batches[:steps] for at in batch)
    return Pace(tokens / seconds, sum(lengths) / len(lengths))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a budget allows."""

    texts: tuple[int, int, int]  # train, valid, test
    seeds: int  # at most, of any rung
    left_out: Mapping[str, float]  # rung → seconds that it alone would take

    def of(self, rungs: Sequence[Rung]) -> list[Rung]:
        """The rungs that are run, with their seeds."""
        return [
            replace(one, seeds=min(one.seeds, self.seeds)) for one in rungs if one.name not in self.left_out
        ]

    def cut(self, split: Split) -> Split:
        """The split with so many texts, drawn by hash: files come sorted by label."""
        train, valid, test = (
            drawn(part, count)
            for part, count in zip((split.train, split.valid, split.test), self.texts, strict=True)
        )
        return replace(split, train=train, valid=valid, test=test)


def planned(
    split: Split, rungs: Sequence[Rung], paces: Mapping[Family, Pace], epochs: float, seconds: float
) -> Plan:
    """As many texts as the budget allows; with the least of them, fewer seeds, then fewer rungs."""
    most = max((one.seeds for one in rungs), default=1)
    plan = Plan(_counts(split, rungs, paces, epochs, seconds), most, {})
    if plan.texts != (least := _least(split)):
        return plan
    plan = replace(plan, seeds=1 if cost(rungs, paces, epochs, *least) > seconds * SPARE else most)
    alone = {one.name: cost([one], paces, epochs, *least) for one in plan.of(rungs)}
    for dearest in sorted(alone, key=lambda name: -alone[name]):
        if cost(plan.of(rungs), paces, epochs, *least) <= seconds * SPARE:
            break
        plan = replace(plan, left_out={**plan.left_out, dearest: alone[dearest]})
    return replace(plan, texts=_counts(split, plan.of(rungs), paces, epochs, seconds))


def remembered(path: Path, key: str) -> Plan | None:
    """The plan of a ladder that was stopped: measured again, another would come out, and no run be kept."""
    try:
        found = json.loads(path.read_text())
        if found["key"] != key:
            return None
        return Plan(tuple(found["texts"]), int(found["seeds"]), dict(found["left_out"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(path: Path, key: str, plan: Plan) -> None:
    path.write_text(json.dumps({"key": key} | asdict(plan)))


def _least(split: Split) -> tuple[int, int, int]:
    return (
        min(len(split.train), LEAST_TRAIN),
        min(len(split.valid), LEAST_VALID),
        min(len(split.test), LEAST_TEST),
    )


def _counts(
    split: Split, rungs: Sequence[Rung], paces: Mapping[Family, Pace], epochs: float, seconds: float
) -> tuple[int, int, int]:
    """(train, valid, test) texts that fit; never below the least."""
    _, least_valid, least_test = _least(split)
    valid, test = min(len(split.valid), MOST_VALID), min(len(split.test), MOST_TEST)
    each = cost(rungs, paces, epochs, 1, 0, 0)
    while True:
        left = seconds * SPARE - cost(rungs, paces, epochs, 0, valid, test)
        least = max(LEAST_TRAIN, 2 * test)
        if left >= least * each or (test <= least_test and valid <= least_valid):
            count = int(left / each) if each else len(split.train)
            return min(len(split.train), max(LEAST_TRAIN, count)), valid, test
        test, valid = max(least_test, test * 3 // 4), max(least_valid, valid * 3 // 4)


def cost(
    rungs: Sequence[Rung], paces: Mapping[Family, Pace], epochs: float, train: int, valid: int, test: int
) -> float:
    """Seconds that all rungs take with so many texts in each part."""
    total = 0.0
    for base, pace in paces.items():
        mine = [rung for rung in rungs if rung.base == base]
        text = pace.tokens_per_text / pace.tokens_per_second
        if any(rung.kind == "features" for rung in mine):
            total += FORWARD * text * (train + valid + test)
        for rung in mine:
            if rung.kind == "network":
                looks = 2 * epochs * max(rung.share, 0.05)
                total += FORWARD * text * train * (rung.share < 0.7)  # the frozen part, computed once
                total += rung.seeds * text * (rung.share * epochs * train + FORWARD * (looks * valid + test))
            if rung.kind == "prompt":
                longer = 1 + rung.options.get("k", 0) * 0.5
                total += rung.seeds * FORWARD * text * longer * (valid + test)
    return total
