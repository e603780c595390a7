"""AdamW, warm-up and linear decay, looks at the validation part; the best state is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training import checkpoints
from training.batching import plan
from training.errors import BaseRefused
from training.inputs import FORWARD_TOKENS, Inputs, casting
from training.networks import Network
from training.records import Settings

CLIP = 1.0  # of the gradient's norm


class Progress(NamedTuple):
    step: int
    steps: int
    loss: float  # mean of the last steps
    valid: float | None  # accuracy, after a look
    seconds_left: float


Say = Callable[[Progress], None]


class Trained(NamedTuple):
    valid: float  # accuracy of the state that was kept
    seconds: float  # optimiser steps alone
    curve: tuple[tuple[int, float, float], ...]
    stopped: str  # why it ended: "epochs", "patience", "time"


def train(
    network: Network,
    inputs: Inputs,
    labels: Sequence[int],
    valid: Inputs,
    valid_labels: Sequence[int],
    settings: Settings,
    *,
    say: Say = lambda progress: None,
    checkpoint: Path | None = None,
    most_seconds: float = math.inf,
) -> Trained:
    """Learns in place; at the end the network holds the state of best validation accuracy.

    Of equal states the earlier is kept. The same settings, data and machine give the same steps: order and
    dropout are functions of the seed. With `checkpoint` an interrupted run goes on where it was. Raises
    BaseRefused when the loss is no longer finite.
    """
    device = network.backbone.device
    torch.manual_seed(settings.seed)
    named = network.named()
    optimiser = _optimiser(network, settings)
    target = torch.tensor(list(labels), device=device)
    per_epoch = len(plan(inputs.lengths, settings.batch_tokens, settings.batch_texts, settings.seed))
    steps = max(1, math.ceil(per_epoch * settings.epochs))
    rate = _ramp(steps, settings.warmup)
    full = [group["lr"] for group in optimiser.param_groups]
    every = max(1, per_epoch // settings.checks)
    state = _State(named, optimiser, checkpoint, settings)
    step, seconds, looks, stopped = state.step, state.seconds, 0, "epochs"
    recent: list[Tensor] = []
    while step < steps:
        epoch = step // per_epoch
        order = plan(
            inputs.lengths, settings.batch_tokens, settings.batch_texts, settings.seed + 7919 * epoch
        )
        for at in order[step % per_epoch :]:
            began = time.perf_counter()
            for group, most in zip(optimiser.param_groups, full, strict=True):
                group["lr"] = most * rate(step)
            recent.append(_step(network, inputs, at, target, optimiser, list(named.values())))
            step += 1
            if step % every == 0 or step >= steps:
                loss = float(torch.stack(recent).mean())  # waits for the device
                seconds += time.perf_counter() - began
                recent.clear()
                if not math.isfinite(loss):
                    raise BaseRefused(f"the loss is {loss} after {step} steps: lower the learning rate")
                looks = state.look(step, loss, accuracy(network, valid, valid_labels), seconds)
                say(Progress(step, steps, loss, state.curve[-1][2], seconds / step * (steps - step)))
                if looks >= settings.patience:
                    stopped = "patience"
                if seconds > most_seconds:
                    stopped = "time"
            else:
                seconds += time.perf_counter() - began
            if step >= steps or stopped != "epochs":
                break
        if stopped != "epochs":
            break
    state.restore()
    return Trained(state.best, seconds, tuple(state.curve), stopped)


def _step(
    network: Network,
    inputs: Inputs,
    at: Sequence[int],
    target: Tensor,
    optimiser: Any,
    parameters: list[torch.nn.Parameter],
) -> Tensor:
    network.head.train()
    entering, mask = inputs.take(at)
    with casting(entering.device):
        logits = network.logits(entering, mask)
    loss = torch.nn.functional.cross_entropy(logits, target[list(at)])
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach()


def predict(network: Network, inputs: Inputs) -> Tensor:
    """Logits of every row, shape (rows, labels), on the processor."""
    network.head.eval()
    found: list[tuple[tuple[int, ...], Tensor]] = []
    budget = FORWARD_TOKENS[network.backbone.device.type]
    with torch.no_grad():
        for at in plan(inputs.lengths, budget, 4096, None):
            entering, mask = inputs.take(at)
            with casting(entering.device):
                found.append((at, network.logits(entering, mask).float()))
    logits = torch.empty((len(inputs.lengths), found[0][1].shape[1]))
    for at, rows in found:
        logits[list(at)] = rows.cpu()
    return logits


def accuracy(network: Network, inputs: Inputs, labels: Sequence[int]) -> float:
    return float((predict(network, inputs).argmax(1) == torch.tensor(list(labels))).float().mean())


def _optimiser(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """No decay on biases and norms; the head, which starts from nothing, learns faster than the body."""
    body: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for one in network.learned.values():
        (body if one.ndim > 1 else plain).append(one)
    head = list(network.head.parameters())
    groups = [
        {"params": body, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
        {"params": plain, "lr": settings.learning_rate, "weight_decay": 0.0},
        {"params": head, "lr": settings.head_learning_rate, "weight_decay": settings.weight_decay},
    ]
    fused = network.backbone.device.type == "cuda"
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=fused)


def _ramp(steps: int, warmup: float) -> Callable[[int], float]:
    rising = max(1, round(steps * warmup))
    return lambda step: min((step + 1) / rising, max(0.0, (steps - step) / max(1, steps - rising)))


class _State:
    """The best state so far, and the checkpoint."""

    def __init__(
        self, named: dict[str, torch.nn.Parameter], optimiser: Any, path: Path | None, settings: Settings
    ) -> None:
        self._named, self._optimiser, self._path = named, optimiser, path
        self._run = repr(settings)
        self.best, self.step, self.seconds, self._since = -1.0, 0, 0.0, 0
        self.curve: list[tuple[int, float, float]] = []
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
        checkpoints.save(self._path, tensors, note | {"since": self._since})

    def _resume(self, found: checkpoints.Checkpoint) -> None:
        note = found.note
        self.step, self.seconds, self.best, self._since = (
            note["step"],
            note["seconds"],
            note["best"],
            note["since"],
        )
        self.curve = [(step, loss, valid) for step, loss, valid in note["curve"]]
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
