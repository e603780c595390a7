"""How much a time budget buys on this machine: a few real steps are timed, the data is cut to fit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
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


def cut(
    split: Split, rungs: Sequence[Rung], paces: Mapping[Family, Pace], epochs: float, seconds: float
) -> Split:
    """The split with as many examples as the budget allows, the same for every rung; drawn by hash."""
    test = drawn(split.test, min(len(split.test), MOST_TEST))
    valid = drawn(split.valid, min(len(split.valid), MOST_VALID))
    while True:
        fixed = cost(rungs, paces, epochs, 0, len(valid), len(test))
        each = cost(rungs, paces, epochs, 1, 0, 0)
        count = int((seconds * SPARE - fixed) / each) if each else len(split.train)
        if count >= max(LEAST_TRAIN, 2 * len(test)) or (
            len(test) <= LEAST_TEST and len(valid) <= LEAST_VALID
        ):
            break
        test = drawn(test, max(LEAST_TEST, len(test) * 3 // 4))  # never the head: files come sorted by label
        valid = drawn(valid, max(LEAST_VALID, len(valid) * 3 // 4))
    train = drawn(split.train, max(LEAST_TRAIN, min(len(split.train), count)))
    return replace(split, train=train, valid=valid, test=test)


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
