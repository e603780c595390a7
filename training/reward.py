"""A reward model: one number for an answer, learned from which of two answers people preferred.

Bradley and Terry (1952): P(a before b) = σ(r(a) − r(b)), so the loss of a comparison is −ln σ(r(a) − r(b))
(Ouyang et al. 2022, arXiv 2203.02155, eq. 1). All comparisons of a question go together, as there: every
answer is read once a step, however often it is compared, and the model cannot learn an answer by heart from
one comparison to be right in the next. A small pull of r(a) + r(b) to zero fixes the scale's free constant
(Eisenstein et al. 2023, arXiv 2312.09244).

r(x, y) = w·h + u·z: h is the last hidden state at the answer's end; z, if asked for, what counting words says
(`training.overlap`), standardised; u starts at the fit of z alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.adapting import TARGETS
from training.batching import Lengths, padded, plan
from training.errors import BaseRefused, DataRefused, ExtraMissing
from training.inputs import FORWARD_TOKENS, casting
from training.overlap import FEATURES, Floats
from training.records import Settings

CENTRING = 0.01
HEAD_STEP = 0.3  # about what a reward moves by at a step: the head's learning rate times the size of h


class Compared(NamedTuple):
    """A question as token ids; its row of `features` belongs to an answer."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]  # each with the token that ends a turn
    pairs: tuple[tuple[int, int], ...]  # the preferred one first
    features: Floats  # (answers, 6)


class Scale(NamedTuple):
    """Mean and deviation of rewards of people's answers: a reward is told in these units."""

    mean: float = 0.0
    deviation: float = 1.0


class RewardModel(nn.Module):
    """A peft model of a sequence classifier with one label, read at the last token of each row.

    Without a network it is the counting part alone.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, network: Any, tokenizer: Any, *, counting: bool) -> None:
        super().__init__()
        self.network, self.tokenizer, self.counting = network, tokenizer, counting
        self.weights = nn.Parameter(torch.zeros(len(FEATURES)), requires_grad=counting)
        self.register_buffer("middle", torch.zeros(len(FEATURES)))
        self.register_buffer("spread", torch.ones(len(FEATURES)))
        self.scale = Scale()

    @property
    def device(self) -> torch.device:
        return self.weights.device

    def forward(self, ids: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """Rewards in no unit yet, shape (rows,); padding must stand on the right."""
        counted = ((features - self.middle) / self.spread) @ self.weights
        if self.network is None:
            return counted
        inner = self.network.base_model.model
        with casting(self.device):
            states = inner.model(input_ids=ids, attention_mask=mask).last_hidden_state
        last = states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1].float()
        found: Tensor = inner.score(last).squeeze(-1).float()
        return found + counted if self.counting else found

    def rewards(self, rows: Sequence[Sequence[int]], features: Floats) -> Tensor:
        """Of whole rows (prompt and answer), in units of `scale`, shape (rows,), without gradients."""
        found = torch.empty(len(rows))
        lengths = np.array([len(one) for one in rows])
        with torch.no_grad():
            for at in plan(lengths, FORWARD_TOKENS[self.device.type] // 4, 64, None):
                found[list(at)] = self.of(at, rows, features).float().cpu()
        return (found - self.scale.mean) / self.scale.deviation

    def of(self, at: Sequence[int], rows: Sequence[Sequence[int]], features: Floats) -> Tensor:
        """`forward` of these rows."""
        batch = padded([rows[one] for one in at], 0, tuple(at))
        counted = torch.from_numpy(features[list(at)]).float()
        found: Tensor = self(batch.ids.to(self.device), batch.mask.to(self.device), counted.to(self.device))
        return found


def new_reward_model(
    folder: Path, device: str, *, rank: int, seed: int, counting: bool, words_only: bool = False
) -> RewardModel:
    """A base with a fresh LoRA and a head of zeros, in float32, or no network.

    Raises BaseRefused, ExtraMissing.
    """
    if words_only:
        return RewardModel(None, tokenizer_of(folder), counting=True).to(device)
    try:
        import peft
    except ImportError as problem:
        raise ExtraMissing("reward needs peft: pip install 'fewshot[training]'") from problem
    tokenizer, base = classifier(folder)
    torch.manual_seed(seed)
    found = {name.rsplit(".", 1)[-1] for name, _ in base.named_modules()}
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=[name for name in TARGETS if name in found],
        modules_to_save=["score"],
        bias="none",
    )
    network: Any = peft.get_peft_model(base, config)
    network.peft_config["default"].base_model_name_or_path = folder.name  # no path of this machine
    return RewardModel(network, tokenizer, counting=counting).to(device)


def tokenizer_of(folder: Path) -> Any:
    """Raises BaseRefused."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as problem:
        raise BaseRefused(f"{folder} cannot be loaded: {str(problem).splitlines()[0]}") from problem
    if tokenizer.eos_token_id is None:
        raise BaseRefused(f"{folder.name} has no end token, so an answer could not end")
    return tokenizer


def classifier(folder: Path) -> tuple[Any, Any]:
    """(tokenizer, decoder with one label and a head of zeros). Raises BaseRefused."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging as loudness

    loading: Any = AutoModelForSequenceClassification
    tokenizer = tokenizer_of(folder)
    level = loudness.get_verbosity()
    loudness.set_verbosity(logging.ERROR)  # that the head is new is what is wanted here
    try:
        base = loading.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32, num_labels=1)
    except (OSError, ValueError) as problem:
        raise BaseRefused(f"{folder} cannot be loaded: {str(problem).splitlines()[0]}") from problem
    finally:
        loudness.set_verbosity(level)
    if not isinstance(getattr(base, "score", None), nn.Linear) or not hasattr(base, "model"):
        raise BaseRefused(f"{folder.name} is no decoder (Llama-like models have what a reward model reads)")
    base.config.use_cache = False
    nn.init.zeros_(base.score.weight)
    return tokenizer, base


class RewardLearner:
    """A `training.loop.Learner` of comparisons; its score is the mean ln σ of the validation margins."""

    def __init__(self, model: RewardModel, rows: Sequence[Compared], valid: Sequence[Compared]) -> None:
        if not rows or not valid:
            raise DataRefused("a reward model needs comparisons to learn from and some to check with")
        self.model, self._rows, self._valid = model, rows, valid
        self.lengths: Lengths = np.array([_tokens(row) for row in rows])

    @property
    def device(self) -> torch.device:
        return self.model.device

    def named(self) -> Mapping[str, nn.Parameter]:
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    def groups(self, settings: Settings) -> list[dict[str, Any]]:
        named = self.named()
        heads = [one for name, one in named.items() if name == "weights" or ".score." in name]
        rest = [one for name, one in named.items() if name != "weights" and ".score." not in name]
        return [
            {"params": rest, "lr": settings.learning_rate, "weight_decay": settings.weight_decay},
            {"params": heads, "lr": settings.head_learning_rate, "weight_decay": settings.weight_decay},
        ]

    def loss(self, at: Sequence[int]) -> Tensor:
        margins, sums = self._margins([self._rows[one] for one in at])
        return -nn.functional.logsigmoid(margins).mean() + CENTRING * sums.square().mean()

    def score(self) -> float:
        return float(nn.functional.logsigmoid(torch.from_numpy(margins(self.model, self._valid))).mean())

    def _margins(self, rows: Sequence[Compared]) -> tuple[Tensor, Tensor]:
        """(r(preferred) − r(other), their sum) of all comparisons of the rows."""
        whole, features, pairs = flat(rows)
        found = self.model.of(range(len(whole)), whole, features)
        better, worse = (found[torch.tensor(side, device=found.device)] for side in zip(*pairs, strict=True))
        return better - worse, better + worse


def flat(
    rows: Sequence[Compared],
) -> tuple[list[tuple[int, ...]], Floats, list[tuple[int, int]]]:
    """(prompt + answer of every answer, their features, pairs by number among them)."""
    whole: list[tuple[int, ...]] = []
    pairs: list[tuple[int, int]] = []
    for row in rows:
        pairs += [(len(whole) + better, len(whole) + worse) for better, worse in row.pairs]
        whole += [row.prompt + answer for answer in row.answers]
    return whole, np.concatenate([row.features for row in rows]), pairs


def margins(model: RewardModel, rows: Sequence[Compared]) -> Floats:
    """r(preferred) − r(other), shape (comparisons,), in the order of the rows; in units of the scale."""
    whole, features, pairs = flat(rows)
    found = model.rewards(whole, features).double().numpy()
    return np.array([found[better] - found[worse] for better, worse in pairs])


def standardise(model: RewardModel, rows: Sequence[Compared], weights: Floats) -> None:
    """Middle and spread of the features of these rows; `weights` are of features as they are."""
    features = np.concatenate([row.features for row in rows])
    spread = np.maximum(features.std(axis=0), 1e-6)
    with torch.no_grad():
        model.middle.copy_(torch.from_numpy(features.mean(axis=0)))
        model.spread.copy_(torch.from_numpy(spread))
        if model.counting:
            model.weights.copy_(torch.from_numpy(weights * spread))


def rescale(model: RewardModel, rows: Sequence[Compared]) -> None:
    """Rewards of the answers of these rows have mean 0 and deviation 1 from here on."""
    model.scale = Scale()
    whole, features, _ = flat(rows)
    found = model.rewards(whole, features)
    model.scale = Scale(float(found.mean()), max(float(found.std()), 1e-6))


@contextmanager
def from_the_start(model: RewardModel) -> Iterator[None]:
    """What is learned within is forgotten after: the folds of a cross-validation start alike."""
    kept = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, one in model.named_parameters():
                if name in kept:
                    one.copy_(kept[name])


def _tokens(row: Compared) -> int:
    return sum(len(row.prompt) + len(answer) for answer in row.answers)
