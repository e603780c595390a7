"""Fitting a reward model to some questions, and judging it by others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.dialogues import ids_of
from training.errors import DataRefused
from training.loop import train
from training.overlap import fitted, of_questions
from training.preferences import Question
from training.records import Settings
from training.reward import Compared, RewardLearner, RewardModel, margins, standardise
from training.reward_report import baselines
from training.telling import progress, say


def compared(
    questions: Sequence[Question], model: RewardModel, room: int, where: Path
) -> tuple[list[Question], list[Compared], int]:
    """Questions with a comparison that fits into `room` tokens, the same as ids, and answers left out."""
    kept, rows, long = [], [], 0
    for one in questions:
        prompt = ids_of(one.prompt, model.tokenizer)
        end = model.tokenizer.eos_token_id
        answers = [(*model.tokenizer.encode(text, add_special_tokens=False), end) for text in one.answers]
        fits = [len(prompt) + len(answer) <= room for answer in answers]
        long += len(fits) - sum(fits)
        number = {at: place for place, at in enumerate(at for at, good in enumerate(fits) if good)}
        pairs = tuple((number[a], number[b]) for a, b in one.pairs if a in number and b in number)
        if not pairs:
            continue
        shorter = one._replace(answers=tuple(one.answers[at] for at in number), pairs=pairs)
        kept.append(shorter)
        rows.append(Compared(prompt, tuple(answers[at] for at in number), pairs, of_questions([shorter])[0]))
    if not kept:
        raise DataRefused(f"no comparison of {where} fits into {room} tokens: raise --max-tokens")
    return kept, rows, long


def fit(
    model: RewardModel,
    kept: Sequence[Question],
    rows: Sequence[Compared],
    learn: Sequence[int],
    check: Sequence[int],
    settings: Settings,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Learns from some rows, stopping by others; what is to be reported."""
    if model.network is None:
        learn = [*learn, *check]  # nothing is stopped early
    some = [rows[row] for row in learn]
    standardise(model, some, fitted([one.features for one in some], [kept[row] for row in learn]))
    if model.network is None:
        return {"train_seconds": 0.0, "trainable": len(model.weights)}
    learner = RewardLearner(model, some, [rows[row] for row in check])
    before = learner.score()
    done = train(learner, settings, say=lambda now: say(progress(now)), checkpoint=checkpoint)
    return {
        "score_before": before,
        "score": done.valid,
        "scored": "mean ln p of a validation comparison",
        "curve": done.curve,
        "stopped": done.stopped,
        "train_seconds": done.seconds,
        "trainable": sum(one.numel() for one in learner.named().values()),
    }


def judged(
    model: RewardModel,
    kept: Sequence[Question],
    rows: Sequence[Compared],
    learned: Sequence[int],
    unseen: Sequence[int],
) -> dict[str, Any]:
    """What each judge got right of the comparisons of `unseen`, having learned from `learned` at most."""
    found = baselines([kept[row] for row in learned], [kept[row] for row in unseen])
    return found | {"reward": margins(model, [rows[row] for row in unseen]) > 0}


def pairs_of(kept: Sequence[Question], some: Sequence[int]) -> int:
    return sum(len(kept[row].pairs) for row in some)


def fold_of(id: str, folds: int, salt: str = "fold") -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}\0{id}".encode()).digest()[:4]) % folds
