"""What tuning changed, on questions that neither policy nor reward model learned from.

Both policies answer every question as often, drawn at temperature 1 and greedily; rewards, and F1 with what a
person answered (a metric that nothing was tuned for), are compared within the question. Intervals resample
questions, p is of random signs of their differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prompts.analysis.paired import mean_interval
from prompts.matching import token_f1
from training.advantages import k1, k3
from training.overlap import overlap
from training.policy import Policy, Rollout, Sampler
from training.reinforcing import Rewarder, rewarded
from training.reward import RewardModel
from training.reward_report import flipped

Floats = NDArray[np.float64]


class Asked(NamedTuple):
    """A question for a policy."""

    prompt: tuple[int, ...]
    asked: str  # its text
    reference: str | None  # what a person answered


class Judge:
    """A reward model as a `training.reinforcing.Rewarder`."""

    def __init__(self, model: RewardModel, questions: Sequence[Asked]) -> None:
        self._model = model
        self._asked = {one.prompt: one.asked for one in questions}

    def rewards(self, rollouts: Sequence[Rollout]) -> Tensor:
        end = self._model.tokenizer.eos_token_id
        rows = [one.prompt + one.answer + (() if one.ended else (end,)) for one in rollouts]
        counted = np.array(
            [overlap(self._asked[one.prompt], said(one, self._model.tokenizer)) for one in rollouts]
        )
        return self._model.rewards(rows, counted)


class Answers(NamedTuple):
    """Of one policy to all questions; every table is (questions, answers)."""

    reward: Floats
    f1: Floats | None
    words: Floats
    ended: Floats
    kl: Floats  # ln π − ln π_ref of an answer: nats
    k3: float  # mean over tokens
    texts: list[str]


def measured(
    policy: Policy,
    sampler: Sampler,
    rewarder: Rewarder,
    questions: Sequence[Asked],
    *,
    each: int,
    most: int,
    seed: int,
    greedy: bool,
) -> Answers:
    """How the policy answers as it was at the sampler's last `sync`."""
    rollouts = sampler.draw([one.prompt for one in questions], each, most, seed, greedy=greedy)
    rewards = rewarded(rewarder, rollouts)
    logps, _, mask = policy.scored(rollouts, most)
    with policy.reference():
        reference, _, _ = policy.scored(rollouts, most)
    texts = [said(one, policy.tokenizer) for one in rollouts]
    references = [questions[one.question].reference for one in rollouts]

    def shaped(values: Sequence[float] | Tensor) -> Floats:
        return np.asarray(values, dtype=np.float64).reshape(len(questions), each)

    return Answers(
        shaped(rewards),
        shaped([token_f1(text, [one or ""]) for text, one in zip(texts, references, strict=True)])
        if all(references)
        else None,
        shaped([float(len(text.split())) for text in texts]),
        shaped([float(one.ended) for one in rollouts]),
        shaped((k1(logps, reference) * mask).sum(1)),
        float((k3(logps, reference) * mask).sum() / mask.sum()),
        texts,
    )


def compared(
    policy: Policy,
    sampler: Sampler,
    rewarder: Rewarder,
    questions: Sequence[Asked],
    *,
    each: int,
    most: int,
    seed: int,
) -> dict[str, Any]:
    """The tuned policy against its start; the content of the report."""
    found: dict[str, Any] = {"questions": len(questions), "each": each}
    for way, greedy, count in (("drawn", False, each), ("greedy", True, 1)):
        some: dict[str, Any] = {"each": count, "most": most, "seed": seed, "greedy": greedy}
        sampler.sync()
        after = measured(policy, sampler, rewarder, questions, **some)
        with policy.reference():
            sampler.sync()
        before = measured(policy, sampler, rewarder, questions, **some)
        found[way] = summary(before, after)
        found[way]["examples"] = [
            {"asked": one.asked[-200:], "start": before.texts[at * count], "tuned": after.texts[at * count]}
            for at, one in enumerate(questions[:3])
        ]
    sampler.sync()
    return found


def summary(before: Answers, after: Answers) -> dict[str, Any]:
    """Means, and paired differences by question with p."""
    content: dict[str, Any] = {
        "reward": _difference(before.reward, after.reward),
        "wins": _wins(before.reward, after.reward),
        "words": _difference(before.words, after.words),
        "ended": _difference(before.ended, after.ended),
        "kl": {"answer": float(after.kl.mean()), "token_k3": after.k3},
    }
    if before.f1 is not None and after.f1 is not None:
        content["f1"] = _difference(before.f1, after.f1)
    return content


def said(rollout: Rollout, tokenizer: Any) -> str:
    return str(tokenizer.decode(list(rollout.answer), skip_special_tokens=True)).strip()


def table(content: Mapping[str, Any]) -> str:
    """`compared` as Markdown."""
    lines = [
        f"{content['questions']:,} questions of the test part; drawn: {content['each']} answers each",
        "",
        "| answers | | start | tuned | difference, 95 % by question | p |",
        "|---|---|---|---|---|---|",
    ]
    for way in ("drawn", "greedy"):
        some = content[way]
        for name, title in (
            ("reward", "reward"),
            ("f1", "F1 with a person's answer"),
            ("words", "words"),
            ("ended", "ended"),
        ):
            if name in some:
                row = some[name]
                mean, low, high = row["difference"]
                lines.append(
                    f"| {way} | {title} | {row['start']:.3f} | {row['tuned']:.3f} | "
                    f"{mean:+.3f} ({low:+.3f} to {high:+.3f}) | {row['p']:.4f} |"
                )
        share, low, high = some["wins"]["share"]
        lines.append(
            f"| {way} | wins by reward, a tie half | | {share:.3f} | {share - 0.5:+.3f} "
            f"({low - 0.5:+.3f} to {high - 0.5:+.3f}) | {some['wins']['p']:.4f} |"
        )
        lines.append(
            f"| {way} | KL to the start | | {some['kl']['answer']:.2f} nats an answer | "
            f"{some['kl']['token_k3']:.4f} a token (k3) | |"
        )
    return "\n".join(lines)


def _difference(before: Floats, after: Floats) -> dict[str, Any]:
    each = (after - before).mean(1)
    return {
        "start": float(before.mean()),
        "tuned": float(after.mean()),
        "difference": mean_interval(each),
        "p": flipped(each, np.arange(len(each))),
    }


def _wins(before: Floats, after: Floats) -> dict[str, Any]:
    each = ((after > before) + 0.5 * (after == before)).mean(1)
    return {"share": mean_interval(each), "p": flipped(each - 0.5, np.arange(len(each)))}


def encoded(questions: Sequence[Any], tokenizer: Any, room: int) -> list[Asked]:
    """`training.preferences.Question`s whose prompt leaves room for an answer."""
    from training.dialogues import ids_of

    made = [Asked(ids_of(one.prompt, tokenizer), one.asked, one.reference) for one in questions]
    return [one for one in made if 0 < len(one.prompt) <= room]


def on(device: str) -> None:
    """TF32 in products of float32 matrices on a card: answers are drawn in float32."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
