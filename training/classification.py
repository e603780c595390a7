"""A network that learns to tell labels apart: what the training loop asks of it, and its guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from training.batching import Lengths, plan
from training.inputs import FORWARD_TOKENS, Inputs, casting
from training.networks import Network
from training.records import Settings


class Classifier:
    """A `training.loop.Learner` of labels; its score is the accuracy on the validation part."""

    def __init__(
        self,
        network: Network,
        inputs: Inputs,
        labels: Sequence[int],
        valid: Inputs,
        valid_labels: Sequence[int],
    ) -> None:
        self._network, self._inputs, self._valid = network, inputs, valid
        self._target = torch.tensor(list(labels), device=self.device)
        self._valid_target = torch.tensor(list(valid_labels))
        self.lengths: Lengths = inputs.lengths

    @property
    def device(self) -> torch.device:
        return self._network.backbone.device

    def named(self) -> Mapping[str, torch.nn.Parameter]:
        return self._network.named()

    def groups(self, settings: Settings) -> list[dict[str, Any]]:
        """No decay on biases and norms; the head, which starts from nothing, learns faster than the body."""
        learned = self._network.learned.values()
        head = list(self._network.head.parameters())
        rate, decay = settings.learning_rate, settings.weight_decay
        return [
            {"params": [one for one in learned if one.ndim > 1], "lr": rate, "weight_decay": decay},
            {"params": [one for one in learned if one.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            {"params": head, "lr": settings.head_learning_rate, "weight_decay": decay},
        ]

    def loss(self, at: Sequence[int]) -> Tensor:
        self._network.head.train()
        entering, mask = self._inputs.take(at)
        with casting(entering.device):
            logits = self._network.logits(entering, mask)
        return torch.nn.functional.cross_entropy(logits, self._target[list(at)])

    def score(self) -> float:
        return float((predict(self._network, self._valid).argmax(1) == self._valid_target).float().mean())


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
