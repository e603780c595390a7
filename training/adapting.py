"""A language model from prompts with completions: LoRA, (IA)³, soft prompt, prefix, or all of its weights.

Loss on completion tokens only. Padding stands on the right, so that a soft prompt stands directly before the
prompt, as the server puts it (with padding on the left the pads would come between).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import bottlenecks
from training.batching import Lengths, plan, width
from training.causal import answering_model
from training.dialogues import Encoded
from training.errors import BaseRefused, ExtraMissing
from training.inputs import FORWARD_TOKENS, casting
from training.records import Settings

RATES = {"lora": 2e-4, "rslora": 2e-4, "soft-prompt": 2e-2, "prefix": 1e-2, "ia3": 5e-3, "full": 2e-5,
         "bottleneck": 1e-3}  # fmt: skip
SCALED = ("k_proj", "v_proj", "down_proj")  # keys, values, and what enters the last layer (arXiv 2205.05638)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
IGNORED = -100  # what cross entropy leaves out


def adapted(folder: Path, device: str, method: str, *, rank: int, tokens: int, seed: int) -> tuple[Any, Any]:
    """(model in float32, tokenizer): of peft, but for "full" and "bottleneck".

    Raises BaseRefused, ExtraMissing.
    """
    try:
        import peft
    except ImportError as problem:
        raise ExtraMissing(f"{method} needs peft: pip install 'fewshot[training]'") from problem
    base, tokenizer = answering_model(folder)
    base.config.use_cache = False
    torch.manual_seed(seed)
    if method == "full":
        return base.requires_grad_(True).to(device), tokenizer
    if method == "bottleneck":
        return bottlenecks.insert(base, rank).to(device), tokenizer
    task = peft.TaskType.CAUSAL_LM
    found = {name.rsplit(".", 1)[-1] for name, _ in base.named_modules()}
    config: Any
    if method in ("lora", "rslora"):
        targets = _those(TARGETS, found, folder)
        config = peft.LoraConfig(
            task_type=task,
            r=rank,
            lora_alpha=2 * rank,
            target_modules=targets,
            bias="none",
            use_rslora=method == "rslora",
        )
    elif method == "ia3":
        targets = _those(SCALED, found, folder)
        inner = [name for name in targets if name == "down_proj"]
        config = peft.IA3Config(task_type=task, target_modules=targets, feedforward_modules=inner)
    elif method == "soft-prompt":
        config = peft.PromptTuningConfig(
            task_type=task, num_virtual_tokens=tokens, prompt_tuning_init="SAMPLE_VOCAB"
        )
    else:
        config = peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=tokens, prefix_projection=False)
    model = peft.get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = folder.name  # no path of this machine
    return model.to(device), tokenizer


def _those(wanted: Sequence[str], found: set[str], folder: Path) -> list[str]:
    """Raises BaseRefused when the base has none of the layers."""
    if not (there := [name for name in wanted if name in found]):
        raise BaseRefused(f"{folder.name} has none of the layers {', '.join(wanted)}")
    return there


def trainable(model: Any) -> int:
    """Numbers that are learned."""
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def save(model: Any, folder: Path) -> None:
    """Safetensors as peft, transformers or `bottlenecks` save them, with no path of this machine."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
        return
    if hasattr(model, "adapters"):
        bottlenecks.save(model, folder)
        return
    model.save_pretrained(str(folder))
    (folder / "generation_config.json").unlink(missing_ok=True)  # the base's own stays in force


class Adapter:
    """A `training.loop.Learner` of answers; its score is the mean ln p of a validation token.

    With two answers a row (chosen, rejected) it learns by direct preference optimisation (arXiv 2305.18290)
    with the model as it starts for reference; the score then is the mean ln σ of a validation pair's
    margin, and `told_right` the share of pairs whose margin is above 0: on few pairs that share is 1 after a
    step or two, and would keep a model that has learned nothing yet.
    """

    def __init__(
        self, model: Any, rows: Sequence[Encoded], valid: Sequence[Encoded], *, beta: float = 0.1
    ) -> None:
        self._model, self._rows, self._valid = model, rows, valid
        self._beta = beta
        self._pairs = len(rows[0].answers) == 2
        self.lengths: Lengths = np.array(
            [sum(len(row.prompt) + len(one) for one in row.answers) for row in rows]
        )
        self._valid_lengths: Lengths = np.array(
            [sum(len(row.prompt) + len(one) for one in row.answers) for row in valid]
        )
        self.told_right: float | None = None  # of pairs, by the newest score
        self._reference = self._reference_scores(rows) if self._pairs else None
        self._valid_reference = self._reference_scores(valid) if self._pairs else None

    @property
    def device(self) -> torch.device:
        found: torch.device = next(self._model.parameters()).device
        return found

    def named(self) -> Mapping[str, torch.nn.Parameter]:
        return {name: one for name, one in self._model.named_parameters() if one.requires_grad}

    def groups(self, settings: Settings) -> list[dict[str, Any]]:
        learned = list(self.named().values())
        return [{"params": learned, "lr": settings.learning_rate, "weight_decay": settings.weight_decay}]

    def loss(self, at: Sequence[int]) -> Tensor:
        rows = [self._rows[one] for one in at]
        if self._reference is None:
            logps, tokens = self._logps(rows, 0)
            return -logps.sum() / tokens.sum()
        return -torch.nn.functional.logsigmoid(self._margins(rows, self._reference[list(at)])).mean()

    def score(self) -> float:
        total, count, right = 0.0, 0.0, 0
        with torch.no_grad():
            for at in plan(self._valid_lengths, FORWARD_TOKENS[self.device.type] // 4, 64, None):
                rows = [self._valid[one] for one in at]
                if self._valid_reference is None:
                    logps, tokens = self._logps(rows, 0)
                    total, count = total + float(logps.sum()), count + float(tokens.sum())
                else:
                    margins = self._margins(rows, self._valid_reference[list(at)])
                    total += float(torch.nn.functional.logsigmoid(margins.float()).sum())
                    right, count = right + int((margins > 0).sum()), count + len(rows)
        self.told_right = right / count if self._pairs else None
        return total / count

    def _margins(self, rows: Sequence[Encoded], reference: Tensor) -> Tensor:
        """β((ln π − ln π_ref)(chosen) − (ln π − ln π_ref)(rejected)), shape (rows,)."""
        chosen, _ = self._logps(rows, 0)
        rejected, _ = self._logps(rows, 1)
        reference = reference.to(chosen.device)
        return self._beta * ((chosen - reference[:, 0]) - (rejected - reference[:, 1]))

    def _reference_scores(self, rows: Sequence[Encoded]) -> Tensor:
        """ln π_ref of both answers, shape (rows, 2): by the adapter as it starts: a new one is the base."""
        found = torch.empty((len(rows), 2))
        lengths = np.array([len(row.prompt) + max(map(len, row.answers)) for row in rows])
        with torch.no_grad():
            for at in plan(lengths, FORWARD_TOKENS[self.device.type] // 4, 64, None):
                some = [rows[one] for one in at]
                for which in (0, 1):
                    found[list(at), which] = self._logps(some, which)[0].float().cpu()
        return found

    def _logps(self, rows: Sequence[Encoded], which: int) -> tuple[Tensor, Tensor]:
        """(ln p of each answer given its prompt, its tokens), both of shape (rows,)."""
        longest = width(max(len(row.prompt) + len(row.answers[which]) for row in rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        labels = np.full_like(ids, IGNORED)
        for number, row in enumerate(rows):
            whole = (*row.prompt, *row.answers[which])
            ids[number, : len(whole)] = whole
            mask[number, : len(whole)] = 1
            labels[number, len(row.prompt) : len(whole)] = row.answers[which]
        device = self.device
        with casting(device):
            out = self._model(
                input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device)
            )
        logits = out.logits[:, out.logits.shape[1] - longest :]  # a soft prompt's own positions come first
        target = torch.from_numpy(labels).to(device)[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), target, ignore_index=IGNORED, reduction="none"
        )
        return -losses.sum(1), (target != IGNORED).sum(1)
