"""A rung that trains a network: finetuning I and II, the layerwise sweep, parameter-efficient methods."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from sklearn.metrics import f1_score

from training.backbone import Backbone
from training.classification import Classifier, predict
from training.errors import BaseRefused
from training.inputs import Inputs, prepared
from training.loop import Say, train
from training.memory import peak_bytes, reset_peak
from training.networks import Network, build
from training.records import Cost, Example, Pooling, Run, Settings, Split

# Learning rates that the methods are known to want; they are not searched.
RATES = {
    "output-layers": 1e-3,
    "last-n": 1e-4,
    "all": 5e-5,
    "lora": 4e-4,
    "ia3": 3e-3,
    "soft-prompt": 2e-2,
    "prefix": 1e-2,
    "bottleneck": 5e-4,
}


class Texts:
    """The tokenised split, shared by all rungs of a backbone; the inputs of the last start block are kept."""

    def __init__(self, backbone: Backbone, split: Split, max_tokens: int) -> None:
        self.backbone, self.split = backbone, split
        self.train, _ = backbone.encode([one.text for one in split.train], max_tokens)
        self.valid, _ = backbone.encode([one.text for one in split.valid], max_tokens)
        self.test, self.truncated = backbone.encode([one.text for one in split.test], max_tokens)
        self._key: tuple[int, Pooling] | None = None
        self._kept: tuple[Inputs, Inputs, float] | None = None

    def inputs(self, start: int, pooling: Pooling) -> tuple[Inputs, Inputs, float]:
        """(train, valid, seconds to prepare them) for a network that runs from block `start`."""
        if self._kept is None or self._key != (start, pooling):
            self._kept = None  # let the memory go before the next takes it
            began = time.perf_counter()
            train = prepared(self.backbone, self.train, start, pooling=pooling)
            valid = prepared(self.backbone, self.valid, start, pooling=pooling)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._kept, self._key = (train, valid, time.perf_counter() - began), (start, pooling)
        return self._kept


def finetune(
    texts: Texts,
    method: str,
    settings: Settings,
    *,
    rung: str,
    pooling: Pooling,
    options: Mapping[str, int],
    say: Say = lambda progress: None,
    checkpoint: Path | None = None,
    most_seconds: float = math.inf,
) -> Run:
    """Train once, score the test part once. The backbone's own weights are as before afterwards.

    Raises BaseRefused when the method does not fit the backbone or the loss diverges.
    """
    backbone, split = texts.backbone, texts.split
    if method == "prefix" and backbone.family == "encoder":
        raise BaseRefused(f"{backbone.name} is an encoder, which reads no prefix: use a decoder model")
    reset_peak()
    with trainable(backbone, method, len(split.labels), settings, pooling, options) as network:
        inputs, valid, prepare = texts.inputs(network.start, pooling)
        learner = Classifier(network, inputs, labels_of(split.train), valid, labels_of(split.valid))
        done = train(learner, settings, say=say, checkpoint=checkpoint, most_seconds=most_seconds)
        peak = peak_bytes()
        began = time.perf_counter()
        guesses = predict(network, _whole(network, texts, pooling)).argmax(1).tolist()
        seconds = time.perf_counter() - began
        size = sum(one.numel() * one.element_size() for one in network.named().values())
        cost = Cost(
            train_seconds=done.seconds,
            prepare_seconds=prepare,
            peak_bytes=peak,
            trainable=network.trainable,
            total=backbone.parameters,
            artefact_bytes=size,
            serve_seconds=seconds / len(split.test),
            added_tokens=float(network.virtual_tokens),
            truncated=texts.truncated,
        )
    return scored(
        split,
        guesses,
        rung=rung,
        seed=settings.seed,
        valid=done.valid,
        cost=cost,
        settings={"method": method, "pooling": pooling, **options, **asdict(settings)},
        curve=done.curve,
    )


@contextmanager
def trainable(
    backbone: Backbone,
    method: str,
    labels: int,
    settings: Settings,
    pooling: Pooling,
    options: Mapping[str, int],
) -> Iterator[Network]:
    """A network built into the backbone; afterwards the backbone is as it was, also after an error."""
    torch.manual_seed(settings.seed)  # the head and what is added start from this seed
    network = build(backbone, method, labels, pooling=pooling, dropout=settings.dropout, options=options)
    own = method in ("last-n", "all")
    before = {name: one.detach().clone() for name, one in network.learned.items()} if own else {}
    try:
        yield network
    finally:
        with torch.no_grad():
            for name, one in before.items():
                network.learned[name].copy_(one)
        network.close()


def scored(
    split: Split,
    guesses: Sequence[int],
    *,
    rung: str,
    seed: int,
    valid: float,
    cost: Cost,
    settings: Mapping[str, object],
    curve: tuple[tuple[int, float, float], ...] = (),
) -> Run:
    """The run of these guesses for the test part."""
    truth = labels_of(split.test)
    return Run(
        rung=rung,
        seed=seed,
        valid=valid,
        test=tuple(guess == label for guess, label in zip(guesses, truth, strict=True)),
        f1=float(f1_score(truth, guesses, average="macro", zero_division=0)),
        cost=cost,
        settings=settings,
        curve=curve,
    )


def labels_of(part: Sequence[Example]) -> list[int]:
    return [one.label for one in part]


def settings_for(method: str, seed: int, **changes: float) -> Settings:
    return replace(Settings(learning_rate=RATES[method], seed=seed), **changes)  # type: ignore[arg-type]


def _whole(network: Network, texts: Texts, pooling: Pooling) -> Inputs:
    """The test part as it would be served: from token ids, nothing computed before."""
    return prepared(texts.backbone, texts.test, network.start, pooling=pooling, keep=False)
