"""A language model as a policy: the probabilities of its answers' tokens, its answers, and its reference.

The reference is the same network with the LoRA as it was at the start: nothing is held twice but the LoRA.
Answers are drawn from a twin without a LoRA, whose weights are the base's plus the LoRA's: a third of the
kernels, and exact in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.batching import padded, plan, width
from training.inputs import casting

DRAWN_TOKENS = {"cpu": 16_384, "cuda": 262_144}  # of prompts and answers drawn at once
SCORED_TOKENS = {"cpu": 2_048, "cuda": 49_152}  # of a batch without gradients


class Rollout(NamedTuple):
    """An answer that was drawn, as token ids."""

    question: int  # number of its prompt among those drawn for
    prompt: tuple[int, ...]
    answer: tuple[int, ...]  # with the end token, where it ended
    ended: bool


class Policy(nn.Module):
    """A peft model with a LoRA that is learned; and a value head, which only PPO learns."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.value = nn.Linear(int(model.config.hidden_size), 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.value.to(next(model.parameters()).device)
        self._start = {name: one.detach().clone() for name, one in self.adapter().items()}

    def expects(self, reward: float) -> None:
        """The value head says `reward` of every state, until it has learned better."""
        nn.init.zeros_(self.value.weight)
        nn.init.constant_(self.value.bias, reward)

    @property
    def device(self) -> torch.device:
        found: torch.device = next(self.model.parameters()).device
        return found

    def adapter(self) -> Mapping[str, nn.Parameter]:
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within, the LoRA is what it was at the start; no gradients."""
        now = self.adapter()
        kept = {name: one.detach().clone() for name, one in now.items()}
        with torch.no_grad():
            for name, one in now.items():
                one.copy_(self._start[name])
            try:
                yield
            finally:
                for name, one in now.items():
                    one.copy_(kept[name])

    def forward(self, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor, Tensor]:
        """(ln p of the answers' tokens, values before each of them, mask), shape (rows, longest answer)."""
        batch = padded([one.prompt + one.answer for one in rollouts], 0, tuple(range(len(rollouts))))
        lengths = torch.tensor([len(one.answer) for one in rollouts])
        longest = int(lengths.max())
        place = torch.arange(longest)
        mask = (place < lengths.unsqueeze(1)).to(self.device)
        before = torch.tensor([len(one.prompt) for one in rollouts]).unsqueeze(1) - 1 + place
        before = before.clamp(max=batch.ids.shape[1] - 2).to(self.device)
        ids = batch.ids.to(self.device)
        inner = self.model.base_model.model
        with casting(self.device):
            states = inner.model(input_ids=ids, attention_mask=batch.mask.to(self.device)).last_hidden_state
            states = states.gather(1, before.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
            logits = inner.lm_head(states)
        said = ids.gather(1, before + 1)
        logps = -nn.functional.cross_entropy(logits.float().transpose(1, 2), said, reduction="none")
        seen = states.detach().float()  # the value's loss does not move the policy
        seen = nn.functional.layer_norm(seen, seen.shape[-1:]) / seen.shape[-1] ** 0.5  # of length 1
        values = self.value(seen).squeeze(-1)
        return logps * mask, values * mask, mask

    def scored(self, rollouts: Sequence[Rollout], most: int) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` of all of them without gradients, on the processor, shape (rows, most)."""
        logps, values = torch.zeros(len(rollouts), most), torch.zeros(len(rollouts), most)
        mask = torch.zeros(len(rollouts), most)
        lengths = np.array([len(one.prompt) + len(one.answer) for one in rollouts])
        with torch.no_grad():
            for at in plan(lengths, SCORED_TOKENS[self.device.type], 256, None):
                rows = list(at)
                for whole, part in zip(
                    (logps, values, mask), self([rollouts[row] for row in rows]), strict=True
                ):
                    whole[rows, : part.shape[1]] = part.float().cpu()
        return logps, values, mask


class Sampler:
    """Draws answers from the policy as it stands at the last `sync`."""

    def __init__(self, policy: Policy, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        loading: Any = AutoModelForCausalLM
        self._policy = policy
        self._twin: Any = loading.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        self._twin.to(policy.device).eval().requires_grad_(False)
        self.sync()

    def sync(self) -> None:
        with torch.no_grad():
            for name, layer in self._policy.model.named_modules():
                if "default" not in getattr(layer, "lora_A", {}):
                    continue
                mine = self._twin.get_submodule(name.removeprefix("base_model.model."))
                mine.weight.copy_(layer.base_layer.weight + layer.get_delta_weight("default"))

    def draw(
        self, prompts: Sequence[Sequence[int]], each: int, most: int, seed: int, *, greedy: bool = False
    ) -> list[Rollout]:
        """`each` answers of at most `most` tokens to every prompt at temperature 1; one prompt's together."""
        found: list[list[Rollout]] = [[] for _ in prompts]
        lengths = np.array([(len(one) + most) * each for one in prompts])
        device = self._policy.device
        devices = [device] if device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            for at in plan(lengths, DRAWN_TOKENS[device.type], 4096, None):
                for number, answers in zip(
                    at, self._answers([prompts[one] for one in at], each, most, greedy), strict=True
                ):
                    found[number] = [
                        Rollout(number, tuple(prompts[number]), answer, ended) for answer, ended in answers
                    ]
        return [one for some in found for one in some]

    def _answers(
        self, prompts: Sequence[Sequence[int]], each: int, most: int, greedy: bool
    ) -> list[list[tuple[tuple[int, ...], bool]]]:
        """Prompts are padded on the left, so that all answers begin in one column."""
        tokenizer, device = self._policy.tokenizer, self._policy.device
        end = int(tokenizer.eos_token_id)
        longest = width(max(map(len, prompts)))
        ids = np.full((len(prompts), longest), end, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(prompts):
            ids[row, longest - len(one) :] = one
            mask[row, longest - len(one) :] = 1
        drawing = (
            {"do_sample": False}
            if greedy
            else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        )
        out = self._twin.generate(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=torch.from_numpy(mask).to(device),
            max_new_tokens=most,
            num_return_sequences=each,
            eos_token_id=end,
            pad_token_id=end,
            use_cache=True,
            **drawing,
        )
        rows = [_until(row, end) for row in out[:, longest:].tolist()]
        return [rows[start : start + each] for start in range(0, len(rows), each)]


def _until(row: list[int], end: int) -> tuple[tuple[int, ...], bool]:
    """(tokens with the first end token, whether there is one)"""
    if end in row:
        return tuple(row[: row.index(end) + 1]), True
    return tuple(row), False
