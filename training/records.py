"""What the room passes around: examples in, measured rungs out. Nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Pooling = Literal["mean", "last", "first"]
Family = Literal["encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text."""

    id: str
    text: str
    label: int  # index into Split.labels


@dataclass(frozen=True, slots=True)
class Split:
    """One data set, cut once: every rung sees the same three parts."""

    name: str
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]
    digest: str  # sha256 over ids, texts, labels and parts
    removed: int = 0  # rows whose text stands in a part nearer to the test too


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, the passage before it if there is one, and every answer that is right."""

    id: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """One data set of questions, cut once, as `Split` is of labels."""

    name: str
    train: tuple[Question, ...]
    valid: tuple[Question, ...]
    test: tuple[Question, ...]
    digest: str  # sha256 over ids, texts, answers and parts
    removed: int = 0  # training questions that stand in a part nearer to the test too


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one network is trained. Every value is part of the artefact's method."""

    learning_rate: float
    epochs: float = 3.0
    batch_tokens: int = 16_384  # of one optimiser step, padding included
    batch_texts: int = 64  # of one optimiser step
    max_tokens: int = 512  # of one text; longer ones are cut at the end and counted
    weight_decay: float = 0.01
    warmup: float = 0.06  # share of the steps
    checks: int = 2  # looks at the validation part per epoch
    patience: int = 6  # looks without a gain before stopping
    dropout: float = 0.1  # before the last layer of the head
    head_learning_rate: float = 1e-3  # of the output layers, which start from nothing
    seed: int = 11


class Batch(NamedTuple):
    """Token ids of some texts, padded on the right."""

    ids: Any  # int64 tensor (texts, tokens)
    mask: Any  # int64 tensor (texts, tokens), 1 = a token
    at: tuple[int, ...]  # where these texts stand in the part


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a rung took. Seconds are of optimiser steps alone; preparing is apart."""

    train_seconds: float = 0.0
    prepare_seconds: float = 0.0  # embeddings, cached activations
    peak_bytes: int = 0  # resident set of the process, or of the card where it trained there
    trainable: int = 0  # parameters with requires_grad
    total: int = 0  # parameters of the base
    artefact_bytes: int = 0
    serve_seconds: float = 0.0  # per text of the test part, on the training machine
    added_tokens: float = 0.0  # per request, in the prompt
    truncated: float = 0.0  # share of the test texts that were cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rung, trained once: one seed, one choice of settings."""

    rung: str
    seed: int
    valid: float  # mean score on the validation part
    test: tuple[float, ...]  # score of each item of the test part: right (1) or wrong, or F1 of an answer
    f1: float  # test part: macro over the labels, or the mean of the answers
    cost: Cost
    settings: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[tuple[int, float, float], ...] = ()  # (step, loss, validation accuracy)
    exact_match: float | None = None  # of answers, test part

    @property
    def score(self) -> float:
        """Accuracy of labels, mean F1 of answers."""
        return sum(self.test) / len(self.test)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the ladder: all seeds of a rung, or the reason why there is none."""

    rung: str
    runs: tuple[Run, ...] = ()
    failed: str = ""  # why it did not run; the others go on
    served_by: str = ""
