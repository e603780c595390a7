"""Is the reward model right more often than chance, length and counting words, on questions it never saw?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis.paired import Interval, holm, mcnemar
from training.overlap import fitted, of_questions
from training.preferences import Question

DRAWS = 4000
Right = NDArray[np.bool_]


class Judged(NamedTuple):
    """Comparisons in the order of their questions, and what each judge got right."""

    questions: NDArray[np.int64]  # of each comparison
    right: Mapping[str, Right]


def baselines(learned: Sequence[Question], unseen: Sequence[Question]) -> dict[str, Right]:
    """ "length": whichever direction of length is right more often on `learned`; "overlap": counting words.

    A tie of lengths goes to the text that comes first in the alphabet, which knows nothing of the preference.
    """
    longer = np.mean([_longer(one, pair) for one in learned for pair in one.pairs]) >= 0.5
    length = np.array([_longer(one, pair) == longer for one in unseen for pair in one.pairs])
    weights = fitted(of_questions(learned), learned)
    overlap = np.array(
        [
            (table[better] - table[worse]) @ weights > 0
            for table, one in zip(of_questions(unseen), unseen, strict=True)
            for better, worse in one.pairs
        ]
    )
    return {"length": length, "overlap": overlap}


def numbered(unseen: Sequence[Question]) -> NDArray[np.int64]:
    """Which question each comparison is of."""
    return np.repeat(np.arange(len(unseen)), [len(one.pairs) for one in unseen])


def summary(judged: Judged, judge: str = "reward") -> dict[str, Any]:
    """Accuracy of every judge, against chance and against `judge`; the content of the report.

    Comparisons of one question share its answers, so intervals resample questions; beside the exact tests
    of single comparisons (binomial, McNemar) stands the one by question (signs of its sums are flipped).
    """
    rows: list[dict[str, Any]] = []
    others = [name for name in judged.right if name != judge]
    mine = judged.right[judge]
    for name, right in judged.right.items():
        row: dict[str, Any] = {
            "judge": name,
            "right": int(right.sum()),
            "comparisons": len(right),
            "accuracy": by_question(right.astype(float), judged.questions),
            "p_chance": binomial(int(right.sum()), len(right)),
            "p_chance_by_question": flipped(right.astype(float) - 0.5, judged.questions),
        }
        if name != judge:
            difference = mine.astype(float) - right
            row |= {
                "gain": by_question(difference, judged.questions),
                "p_mcnemar": mcnemar(mine.astype(float), right.astype(float)).p,
                "p_by_question": flipped(difference, judged.questions),
            }
        rows.append(row)
    corrected = holm([row["p_by_question"] for row in rows if "p_by_question" in row])
    for name, p in zip(others, corrected, strict=True):
        next(row for row in rows if row["judge"] == name)["p_by_question_holm"] = p
    return {"questions": int(judged.questions.max()) + 1, "comparisons": len(mine), "judges": rows}


def by_question(values: NDArray[np.float64], questions: NDArray[np.int64], seed: int = 7) -> Interval:
    """The mean over comparisons with its 95 % bootstrap interval over questions."""
    sums, counts = np.bincount(questions, values), np.bincount(questions).astype(float)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(DRAWS, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def flipped(values: NDArray[np.float64], questions: NDArray[np.int64], seed: int = 7) -> float:
    """Two-sided p of mean 0 by random signs of the questions' sums; (1 + as far or farther) / (1 + draws)."""
    sums = np.bincount(questions, values)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(DRAWS, len(sums)))
    farther = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + farther.sum()) / (1 + DRAWS))


def binomial(right: int, of: int) -> float:
    """Exact two-sided p of a share of one half."""
    tail = sum(math.comb(of, at) for at in range(min(right, of - right) + 1))
    return float(min(1.0, 2 * tail / 2**of))


def table(title: str, content: Mapping[str, Any]) -> str:
    """`summary` as Markdown."""
    lines = [
        f"{title}: {content['comparisons']:,} comparisons of {content['questions']:,} questions",
        "",
        "| judge | right | 95 % by question | p chance | by question | reward − it | McNemar | by question |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["judges"]:
        _, low, high = row["accuracy"]
        cells = [
            row["judge"],
            f"{row['accuracy'][0]:.3f}",
            f"{low:.3f}–{high:.3f}",
            _p(row["p_chance"]),
            _p(row["p_chance_by_question"]),
        ]
        if "gain" in row:
            gain, low, high = row["gain"]
            cells += [
                f"{gain:+.3f} ({low:+.3f} to {high:+.3f})",
                _p(row["p_mcnemar"]),
                _p(row["p_by_question"]),
            ]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _longer(one: Question, pair: tuple[int, int]) -> bool:
    better, worse = (one.answers[at] for at in pair)
    if len(better) == len(worse):
        return better < worse
    return len(better) > len(worse)
