"""AdamW, warm-up and linear decay, looks at the validation part; the best state is kept."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from training import checkpoints
from training.batching import Lengths, plan
from training.errors import BaseRefused
from training.records import Settings

CLIP = 1.0  # of the gradient's norm


class Progress(NamedTuple):
    step: int
    steps: int
    loss: float  # mean of the last steps
    valid: float  # score at this look
    seconds_left: float


Say = Callable[[Progress], None]


class Learner(Protocol):
    """What is trained: it knows its parameters, the loss of some rows, and how well it does."""

    @property
    def device(self) -> torch.device: ...

    @property
    def lengths(self) -> Lengths:
        """Tokens of each training row."""
        ...

    def named(self) -> Mapping[str, torch.nn.Parameter]:
        """What is learned, and nothing else."""
        ...

    def groups(self, settings: Settings) -> list[dict[str, Any]]:
        """The same for the optimiser, with learning rates and decay."""
        ...

    def loss(self, at: Sequence[int]) -> Tensor:
        """Mean loss of these rows, with its graph."""
        ...

    def score(self) -> float:
        """On the validation part; larger is better."""
        ...


class Trained(NamedTuple):
    valid: float  # score of the state that was kept
    seconds: float  # optimiser steps alone
    curve: tuple[tuple[int, float, float], ...]  # (step, loss, score)
    stopped: str  # why it ended: "epochs", "patience", "time"


def train(
    learner: Learner,
    settings: Settings,
    *,
    say: Say = lambda progress: None,
    checkpoint: Path | None = None,
    most_seconds: float = math.inf,
) -> Trained:
    """Learns in place; at the end the learner holds the state of best validation score.

    Of equal states the earlier is kept. The same settings, data and machine give the same steps: order and
    dropout are functions of the seed. With `checkpoint` an interrupted run goes on where it was. Raises
    BaseRefused when the loss is no longer finite.
    """
    torch.manual_seed(settings.seed)
    named = dict(learner.named())
    groups = [group for group in learner.groups(settings) if group["params"]]
    optimiser = torch.optim.AdamW(groups, fused=learner.device.type == "cuda")
    full = [group["lr"] for group in optimiser.param_groups]
    per_epoch = len(plan(learner.lengths, settings.batch_tokens, settings.batch_texts, settings.seed))
    steps = max(1, math.ceil(per_epoch * settings.epochs))
    rate = ramp(steps, settings.warmup)
    every = max(1, per_epoch // settings.checks)
    state = State(named, optimiser, checkpoint, settings)
    seconds, stopped = state.seconds, "epochs"
    recent: list[Tensor] = []
    began = time.perf_counter()
    for step, at in _rows(learner.lengths, settings, state.step, steps):
        for group, most in zip(optimiser.param_groups, full, strict=True):
            group["lr"] = most * rate(step - 1)
        loss = learner.loss(at)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(named.values()), CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent.append(loss.detach())
        if step % every and step < steps:
            continue
        mean = float(torch.stack(recent).mean())  # waits for the device
        seconds += time.perf_counter() - began
        recent.clear()
        if not math.isfinite(mean):
            raise BaseRefused(f"the loss is {mean} after {step} steps: lower the learning rate")
        since = state.look(step, mean, learner.score(), seconds)
        say(Progress(step, steps, mean, state.curve[-1][2], seconds / step * (steps - step)))
        if since >= settings.patience or seconds > most_seconds:
            stopped = "patience" if since >= settings.patience else "time"
            break
        began = time.perf_counter()
    state.restore()
    return Trained(state.best, seconds, tuple(state.curve), stopped)


def _rows(
    lengths: Lengths, settings: Settings, done: int, steps: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(number of the step, from 1; its rows), behind the `done` first ones; every epoch in its own order."""
    number = 0
    for epoch in itertools.count():
        seed = settings.seed + 7919 * epoch
        for at in plan(lengths, settings.batch_tokens, settings.batch_texts, seed):
            number += 1
            if number > steps:
                return
            if number > done:
                yield number, at


def ramp(steps: int, warmup: float) -> Callable[[int], float]:
    """Share of the learning rate at a step, from 0: up during the share `warmup` of the steps, then down."""
    rising = max(1, round(steps * warmup))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


class State:
    """The best state so far, and the checkpoint, which only a run of the same settings goes on from."""

    def __init__(
        self, named: dict[str, torch.nn.Parameter], optimiser: Any, path: Path | None, settings: object
    ) -> None:
        self._named, self._optimiser, self._path = named, optimiser, path
        self._run = repr(settings)
        self.best, self.step, self.seconds, self._since = -math.inf, 0, 0.0, 0
        self.curve: list[tuple[int, float, float]] = []
        self.history: list[list[float]] = []  # what else a method keeps of its steps
        self._kept: dict[str, Tensor] = {}
        if path is not None and (found := checkpoints.load(path)) and found.note["run"] == self._run:
            self._resume(found)

    def look(self, step: int, loss: float, valid: float, seconds: float) -> int:
        """Looks since the last gain."""
        self.curve.append((step, loss, valid))
        self._since += 1
        if valid > self.best:
            self.best, self._since = valid, 0
            self._kept = {name: one.detach().clone() for name, one in self._named.items()}
        if self._path is not None:
            self._save(step, seconds)
        return self._since

    def restore(self) -> None:
        with torch.no_grad():
            for name, one in self._kept.items():
                self._named[name].copy_(one)

    def _save(self, step: int, seconds: float) -> None:
        assert self._path is not None
        tensors: dict[str, Tensor] = {f"now.{name}": one for name, one in self._named.items()}
        tensors |= {f"best.{name}": one for name, one in self._kept.items()}
        for name, one in self._named.items():
            for kind, value in self._optimiser.state.get(one, {}).items():
                tensors[f"optimiser.{kind}.{name}"] = torch.as_tensor(value)
        note = {"run": self._run, "step": step, "seconds": seconds, "curve": self.curve, "best": self.best}
        checkpoints.save(self._path, tensors, note | {"since": self._since, "history": self.history})

    def _resume(self, found: checkpoints.Checkpoint) -> None:
        note = found.note
        self.step, self.seconds, self.best, self._since = (
            note["step"],
            note["seconds"],
            note["best"],
            note["since"],
        )
        self.curve = [(step, loss, valid) for step, loss, valid in note["curve"]]
        self.history = note.get("history", [])
        with torch.no_grad():
            for name, one in self._named.items():
                one.copy_(found.tensors[f"now.{name}"])
                if f"best.{name}" in found.tensors:
                    self._kept[name] = found.tensors[f"best.{name}"].to(one.device)
                slots = {
                    kind: found.tensors[f"optimiser.{kind}.{name}"]
                    for kind in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimiser.{kind}.{name}" in found.tensors
                }
                self._optimiser.state[one] = {
                    kind: value if kind == "step" and one.device.type == "cpu" else value.to(one.device)
                    for kind, value in slots.items()
                }
