"""What the server said → each arm's figures with intervals, and each arm against the first, paired."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompts.analysis.paired import holm, mcnemar, mean_interval, sign_flip, wilson
from prompts.calibration import BATCH_LEAST, calibration_error, probabilities
from prompts.calibrator import Calibrator, cross_fitted, fit
from prompts.matching import exact_match, token_f1
from prompts.records import Calibration
from server.measuring.arms import Arm
from server.measuring.asking import Heard, Said
from server.measuring.items import Item

Scores = NDArray[np.float64]


class Judged(NamedTuple):
    """One arm."""

    figures: dict[str, Any]
    right: Scores  # 0 or 1 an item
    graded: Scores | None = None  # token F1 an item
    calibrator: Calibrator | None = None  # fitted on these items


def judge_labels(arm: Arm, heard: Heard, items: Sequence[Item]) -> Judged:
    """Accuracy, macro F1, refusals, calibration errors, cost. What failed or was refused is wrong.

    Raises CalibratorInvalid when the arm wants batch calibration of too few items.
    """
    assert heard.of is not None
    ids = heard.of.labels
    columns = np.array([ids.index(item.label) if item.label in ids else -1 for item in items])
    answered = np.array([not one.failed for one in heard.said])
    known = answered & (columns >= 0)
    logprobs = np.array([one.logprobs for one in heard.said if not one.failed])
    shares = np.array([one.probabilities for one in heard.said if not one.failed])
    guesses = [one.label for one in heard.said]
    method: Calibration = arm.wishes.get("calibrate") or ("batch" if known.sum() >= BATCH_LEAST else "none")
    calibrator = None
    inside = columns[answered] >= 0
    if method in ("batch", "none"):
        calibrator = fit(heard.of, logprobs[inside], method=method, gold=columns[known])
    if arm.wishes.get("calibrate") == "batch":
        assert calibrator is not None
        shares = fit(heard.of, logprobs, method="batch").probabilities(logprobs)
        labelled = iter([ids[at] for at in shares.argmax(axis=1)])
        guesses = [None if one.failed else next(labelled) for one in heard.said]
    right = np.array([float(guess == item.label) for guess, item in zip(guesses, items, strict=True)])
    errors = _errors(shares[inside], probabilities(logprobs[inside]), columns[known])
    figures = {
        "accuracy": wilson(int(right.sum()), len(items)),
        "macro_f1": macro_f1([item.label for item in items], guesses),
        "refused": wilson(
            sum(one.refused and guess is None for one, guess in zip(heard.said, guesses, strict=True)),
            len(items),
        ),
        "calibration_error": errors,
        "unknown_labels": int((columns < 0).sum()),
        **_cost(heard),
    }
    return Judged(figures, right, calibrator=calibrator)


def judge_answers(heard: Heard, items: Sequence[Item]) -> Judged:
    """Exact match, token F1, refusals, citation precision, cost. What failed or was refused is wrong."""
    pairs = list(zip(heard.said, items, strict=True))
    right = np.array([_score(exact_match, one, item) for one, item in pairs])
    graded = np.array([_score(token_f1, one, item) for one, item in pairs])
    judged = [(names, item) for one, item in pairs if item.sources for names in one.cited]
    rightly = sum(bool(names & set(item.sources)) for names, item in judged)
    figures = {
        "exact_match": wilson(int(right.sum()), len(items)),
        "f1": mean_interval(graded),
        "refused": wilson(sum(one.refused for one in heard.said), len(items)),
        "citations": sum(len(one.cited) for one in heard.said),
        "citation_precision": wilson(rightly, len(judged)) if judged else None,
        **_cost(heard),
    }
    return Judged(figures, right, graded=graded)


def compared(names: Sequence[str], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Every further arm against the first: McNemar on what is right, sign flips on F1, Holm over the arms."""
    first = judged[0]
    tests = [mcnemar(other.right, first.right) for other in judged[1:]]
    corrected = holm([test.p for test in tests])
    graded = [one.graded for one in judged if one.graded is not None]
    flips = [sign_flip(one, graded[0]) for one in graded[1:]]
    corrected_flips = holm(flips)
    rows: list[dict[str, Any]] = []
    for name, other, test, p in zip(names[1:], judged[1:], tests, corrected, strict=True):
        row: dict[str, Any] = {
            "arm": name,
            "against": names[0],
            "difference": test.difference,
            "only_this_right": test.only_first,
            "only_that_right": test.only_second,
            "p": test.p,
            "p_holm": p,
            "proven": _proven(p, test.difference.mean),
        }
        if other.graded is not None and first.graded is not None:
            at = len(rows)
            row["f1_difference"] = mean_interval(other.graded, first.graded)
            row["f1_p"], row["f1_p_holm"] = flips[at], corrected_flips[at]
            row["f1_proven"] = _proven(corrected_flips[at], row["f1_difference"].mean)
        rows.append(row)
    return rows


def _proven(p: float, difference: float) -> str:
    return "no" if p >= 0.05 else "better" if difference > 0 else "worse"


def macro_f1(gold: Sequence[str | None], guesses: Sequence[str | None]) -> float:
    """The mean over the labels that occur of the F1 of each."""
    values = []
    for label in sorted({one for one in gold if one is not None}):
        hit = sum(one == guess == label for one, guess in zip(gold, guesses, strict=True))
        said, there = sum(guess == label for guess in guesses), sum(one == label for one in gold)
        values.append(2 * hit / (said + there))
    return float(np.mean(values)) if values else float("nan")


def _errors(shares: Scores, raw: Scores, gold: NDArray[np.int64]) -> dict[str, float] | None:
    """Of the raw scores, of the arm's probabilities, and of these with a cross-fitted temperature."""
    if not len(gold):
        return None
    return {
        "raw": calibration_error(raw, gold),
        "arm": calibration_error(shares, gold),
        "with_temperature": calibration_error(cross_fitted(shares, gold), gold),
    }


def _score(measure: Any, one: Said, item: Item) -> float:
    return 0.0 if one.failed or one.refused else float(measure(one.text, item.answers))


def _cost(heard: Heard) -> dict[str, Any]:
    said = [one for one in heard.said if not one.failed]
    failures = [one.failed for one in heard.said if one.failed]
    waits = [one.seconds for one in said]
    return {
        "failed": len(failures),
        "failures": sorted(set(failures))[:5],
        "prompt_tokens": sum(one.prompt_tokens for one in said),
        "cached_tokens": sum(one.cached_tokens for one in said),
        "completion_tokens": sum(one.completion_tokens for one in said),
        "seconds": heard.seconds,
        "seconds_median": float(np.median(waits)) if waits else None,
    }
