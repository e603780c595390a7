"""RLOO, GRPO and PPO: answers are drawn, a reward model judges them, the policy moves to the better ones.

RLOO (Ahmadian et al. 2024): the reward of an answer is r − β Σ_t (ln π − ln π_ref), its advantage what it is
    above the other answers to the same prompt; one step a batch of answers.
GRPO (Shao et al. 2024): the advantage is standardised within a prompt, β k3 stands in the loss.
PPO (Schulman et al. 2017; Ouyang et al. 2022): −β (ln π − ln π_ref) is a reward of each token, r of the last;
    a value head and GAE give every token its advantage; several clipped steps a batch of answers. The head
    starts at the mean reward of the start (Ouyang et al. start it from the reward model): from 0, rewards
    that are low on average make every token near the end look bad, and the policy learns never to end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from training.advantages import (
    clipped,
    generalised,
    group_normalised,
    k1,
    k3,
    leave_one_out,
    masked_mean,
    whitened,
)
from training.batching import plan
from training.errors import BaseRefused
from training.loop import CLIP, State, ramp
from training.policy import Policy, Rollout, Sampler

LEARNED_TOKENS = {"cpu": 2_048, "cuda": 24_576}  # of a batch with gradients
MISSING_END = 1.0  # taken from the reward of an answer that did not end, in deviations
VALUE_RATE = 1e-2  # of the value head, which starts from nothing and reads states of length 1
Method = Literal["rloo", "grpo", "ppo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a policy is tuned. Every value is part of the artefact's method."""

    method: Method
    steps: int = 40
    prompts: int = 32  # a step
    samples: int = 4  # answers a prompt
    most_tokens: int = 128  # of an answer
    learning_rate: float = 2e-4
    beta: float = 0.05  # of the divergence from the reference
    reach: float = 0.2  # of the ratio, before it is clipped
    passes: int = 1  # over a batch of answers
    parts: int = 1  # optimiser steps a pass
    gamma: float = 1.0
    lam: float = 0.95
    checks: int = 4  # looks at the validation part
    seed: int = 11


class Rewarder(Protocol):
    def rewards(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Shape (rows,), in deviations of people's answers."""
        ...


class Turn(NamedTuple):
    """What a step saw, as means over its answers."""

    step: int
    reward: float
    kl: float  # nats an answer
    k3: float  # nats a token
    tokens: float
    ended: float
    clipped: float  # share of tokens whose ratio left its range
    loss: float


class Tuned(NamedTuple):
    before: float  # validation: reward − β KL
    after: float
    seconds: float
    turns: tuple[Turn, ...]
    curve: tuple[tuple[int, float, float], ...]


class Batch(NamedTuple):
    """Answers with everything that stays as it is while the policy learns from them."""

    rollouts: list[Rollout]
    logps: Tensor  # (rows, most)
    reference: Tensor
    mask: Tensor
    advantages: Tensor
    returns: Tensor  # what the value head should say; PPO only


def reinforce(
    policy: Policy,
    sampler: Sampler,
    rewarder: Rewarder,
    prompts: Sequence[tuple[int, ...]],
    valid: Sequence[tuple[int, ...]],
    course: Course,
    *,
    say: Callable[[Turn, float], None] = lambda turn, left: None,
    checkpoint: Path | None = None,
) -> Tuned:
    """Tunes the policy in place; what is best by validation reward − β KL is kept, the start included.

    Answers are drawn by seed and step: a run that goes on from a checkpoint is the run that never stopped.
    Raises BaseRefused when the loss is no number.
    """
    named = dict(policy.adapter())
    groups = [{"params": list(named.values()), "lr": course.learning_rate}]
    if course.method == "ppo":
        head = dict(policy.value.named_parameters(prefix="value"))
        groups.append({"params": list(head.values()), "lr": VALUE_RATE})
        named |= head
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    full = [group["lr"] for group in optimiser.param_groups]
    state = State(named, optimiser, checkpoint, course)
    turns = [Turn(int(one[0]), *one[1:]) for one in state.history]
    every = max(1, course.steps // course.checks)
    rate = ramp(course.steps + 1, 0.1)
    if not state.curve:
        start = _score(policy, sampler, rewarder, valid, course)
        if course.method == "ppo":
            policy.expects(start)
        state.look(0, 0.0, start, 0.0)
    seconds = state.seconds
    for step in range(state.step + 1, course.steps + 1):
        began = time.perf_counter()
        sampler.sync()
        chosen = _chosen(len(prompts), course.prompts, step, course.seed)
        rollouts = sampler.draw(
            [prompts[one] for one in chosen], course.samples, course.most_tokens, _seed(course, step)
        )
        batch, turn = _judged(policy, rewarder, rollouts, course, step)
        for group, most in zip(optimiser.param_groups, full, strict=True):
            group["lr"] = most * rate(step - 1)
        loss, outside = _learn(policy, optimiser, batch, course, step)
        if not math.isfinite(loss):
            raise BaseRefused(f"the loss is {loss} after {step} steps: lower the learning rate")
        turns.append(turn._replace(loss=loss, clipped=outside))
        seconds += time.perf_counter() - began
        say(turns[-1], seconds / step * (course.steps - step))
        if step % every == 0 or step == course.steps:
            sampler.sync()
            state.history = [list(one) for one in turns]
            state.look(step, loss, _score(policy, sampler, rewarder, valid, course), seconds)
    state.restore()
    sampler.sync()
    return Tuned(state.curve[0][2], state.best, seconds, tuple(turns), tuple(state.curve))


def rewarded(rewarder: Rewarder, rollouts: Sequence[Rollout]) -> Tensor:
    """The rewards, less `MISSING_END` where an answer did not end."""
    unfinished = torch.tensor([not one.ended for one in rollouts], dtype=torch.float32)
    return rewarder.rewards(rollouts) - MISSING_END * unfinished


def _judged(
    policy: Policy, rewarder: Rewarder, rollouts: list[Rollout], course: Course, step: int
) -> tuple[Batch, Turn]:
    rewards = rewarded(rewarder, rollouts)
    logps, values, mask = policy.scored(rollouts, course.most_tokens)
    with policy.reference():
        reference, _, _ = policy.scored(rollouts, course.most_tokens)
    apart = k1(logps, reference) * mask
    returns = torch.zeros_like(logps)
    if course.method == "ppo":
        by_token = -course.beta * apart
        last = mask.sum(1).long() - 1
        by_token[torch.arange(len(rollouts)), last] += rewards
        raw = generalised(by_token, values, mask, course.gamma, course.lam)
        advantages, returns = whitened(raw, mask), raw + values
    else:
        whole = rewards - course.beta * apart.sum(1) if course.method == "rloo" else rewards
        rule = leave_one_out if course.method == "rloo" else group_normalised
        advantages = rule(whole.view(-1, course.samples)).view(-1, 1) * mask
    turn = Turn(
        step,
        float(rewards.mean()),
        float(apart.sum(1).mean()),
        float((k3(logps, reference) * mask).sum() / mask.sum()),
        float(mask.sum(1).mean()),
        float(np.mean([one.ended for one in rollouts])),
        0.0,
        0.0,
    )
    return Batch(rollouts, logps, reference, mask, advantages, returns), turn


def loss_of(
    logps: Tensor, values: Tensor, batch: Batch, rows: Sequence[int], course: Course
) -> tuple[Tensor, Tensor]:
    """(summed loss of these rows, tokens outside of the range); `logps` and `values` of shape (rows, tokens).

    RLOO and PPO divide by the longest answer there may be, so that every token weighs the same; GRPO by each
    answer's own length, as published.
    """
    some, tokens = list(rows), logps.shape[1]
    device = logps.device
    mask = batch.mask[some, :tokens].to(device)
    advantages = batch.advantages[some, :tokens].to(device)
    ratio = torch.exp((logps - batch.logps[some, :tokens].to(device)) * mask)
    by_token = clipped(ratio, advantages, course.reach) * mask
    outside = (((ratio - 1).abs() > course.reach) * mask).sum()
    if course.method == "grpo":
        apart = k3(logps, batch.reference[some, :tokens].to(device)) * mask
        return masked_mean(by_token + course.beta * apart, mask).sum(), outside
    if course.method == "ppo":
        by_token = by_token + 0.5 * (values - batch.returns[some, :tokens].to(device)).square() * mask
    return by_token.sum() / course.most_tokens, outside


def _learn(policy: Policy, optimiser: Any, batch: Batch, course: Course, step: int) -> tuple[float, float]:
    """(mean loss, share of tokens outside of the range)"""
    draw = np.random.default_rng([course.seed, step])
    lengths = np.array([len(one.prompt) + len(one.answer) for one in batch.rollouts])
    losses, outside = [], 0.0
    for _ in range(course.passes):
        for part in np.array_split(draw.permutation(len(batch.rollouts)), course.parts):
            total = 0.0
            for at in plan(lengths[part], LEARNED_TOKENS[policy.device.type], 4096, None):
                rows = [int(part[one]) for one in at]
                logps, values, _ = policy([batch.rollouts[row] for row in rows])
                loss, left = loss_of(logps, values, batch, rows, course)
                torch.autograd.backward(loss / len(part))
                total += float(loss.detach()) / len(part)
                outside += float(left)
            for group in optimiser.param_groups:  # each alone: the value's gradient is far the larger
                torch.nn.utils.clip_grad_norm_(group["params"], CLIP)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(total)
    return float(np.mean(losses)), outside / float(batch.mask.sum()) / course.passes


def _score(
    policy: Policy,
    sampler: Sampler,
    rewarder: Rewarder,
    valid: Sequence[tuple[int, ...]],
    course: Course,
) -> float:
    """Mean reward − β KL of answers to the validation prompts, drawn by one seed at every look."""
    rollouts = sampler.draw(valid, course.samples, course.most_tokens, course.seed)
    logps, _, mask = policy.scored(rollouts, course.most_tokens)
    with policy.reference():
        reference, _, _ = policy.scored(rollouts, course.most_tokens)
    apart = (k1(logps, reference) * mask).sum(1)
    return float((rewarded(rewarder, rollouts) - course.beta * apart).mean())


def _chosen(prompts: int, count: int, step: int, seed: int) -> list[int]:
    """Prompts of a step: all of them once in an order of their own, then again in another."""
    first, found = (step - 1) * count, []
    orders: dict[int, Any] = {}
    for number in range(first, first + count):
        epoch, at = divmod(number, prompts)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, epoch]).permutation(prompts)
        found.append(int(orders[epoch][at]))
    return found


def _seed(course: Course, step: int) -> int:
    return course.seed * 1_000_003 + step
