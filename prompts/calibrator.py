"""What makes a template's label scores calibrated on one model: a small file with a digest.

A calibrator belongs to what it was measured with: the wording, the pool, the number of worked examples, the
model, the adapter and the way of scoring. Frozen during a phase of an experiment, since it moves answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from prompts.calibration import (
    BATCH_LEAST,
    Array,
    Columns,
    best_temperature,
    calibrated,
    calibration_error,
    mean_probabilities,
    probabilities,
    tempered,
)
from prompts.errors import CalibratorInvalid
from prompts.records import Calibration, Scoring

FORMAT = 1
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What label scores depend on; a calibrator serves exactly the setting it was fitted in."""

    template: str  # name@version
    template_sha256: str
    labels: tuple[str, ...]  # ids, in the order of the scores
    scoring: Scoring
    demos: int  # worked examples picked for each question
    pool_sha256: str | None
    model_sha256: str
    adapter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrator:
    """softmax((ln p − ln p̄ + ln π) / T), with p̄ and T measured once."""

    of: Scored
    method: Calibration
    mean: tuple[float, ...]  # p̄ of each label; uniform for `none`
    prompts: int  # that the mean is over
    temperature: float = 1.0
    shares: tuple[float, ...] | None = None  # π, where the share of each label is known
    items: int = 0  # labelled ones that the temperature was fitted on; 0: not fitted
    error_before: float | None = None  # expected calibration error on them, cross-fitted
    error_after: float | None = None

    @property
    def digest(self) -> str:
        """sha256 of what changes probabilities and of what they belong to."""
        said = asdict(self)
        for measured in ("items", "prompts", "error_before", "error_after"):
            del said[measured]
        return hashlib.sha256(_canonical(said).encode()).hexdigest()

    def probabilities(self, logprobs: Sequence[float] | Sequence[Sequence[float]] | Array) -> Array:
        """Calibrated probabilities over the last axis, in the order of `of.labels`."""
        return tempered(calibrated(logprobs, self.mean, self.shares), self.temperature)


def fit(
    of: Scored,
    logprobs: Sequence[Sequence[float]] | Array,
    *,
    method: Calibration = "batch",
    content_free: Sequence[Sequence[float]] | Array = (),
    gold: Sequence[int] | Columns = (),
    shares: Sequence[float] | None = None,
) -> Calibrator:
    """A calibrator from the scores of real questions, shape (n, labels), labels as in `of`.

    `batch` needs at least BATCH_LEAST questions, `content_free` the scores of the content-free inputs.
    With `gold`, the columns of the right labels of the same questions, the temperature is fitted too and
    the errors are measured, each item by a temperature that was fitted without it.
    Raises CalibratorInvalid.
    """
    table = np.asarray(logprobs, dtype=np.float64).reshape(-1, len(of.labels))
    mean, prompts = _mean(table, method, content_free, len(of.labels))
    flat = calibrated(table, mean, shares) if len(table) else table
    known = np.asarray(gold, dtype=np.int64)
    if len(known) not in (0, len(table)):
        raise CalibratorInvalid(of.template, [f"{len(known)} right labels for {len(table)} questions"])
    return Calibrator(
        of=of,
        method=method,
        mean=tuple(float(share) for share in mean),
        prompts=prompts,
        temperature=best_temperature(flat, known),
        shares=None if shares is None else tuple(shares),
        items=len(known),
        error_before=calibration_error(probabilities(table), known) if len(known) else None,
        error_after=calibration_error(cross_fitted(flat, known), known) if len(known) else None,
    )


def cross_fitted(shares: Array, gold: Sequence[int] | Columns, folds: int = FOLDS) -> Array:
    """Each row of `shares`, shape (n, labels), at the temperature of the other folds' rows."""
    right = np.asarray(gold, dtype=np.int64)
    fold = np.arange(len(right)) % folds
    rows = np.empty_like(shares)
    for at in range(min(folds, len(right))):
        rest = fold != at
        rows[fold == at] = tempered(shares[fold == at], best_temperature(shares[rest], right[rest]))
    return rows


def write(calibrator: Calibrator, folder: Path) -> Path:
    """`<folder>/<template>@<version>.<digest>.json`; the same calibrator gives the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{calibrator.of.template}.{calibrator.digest[:12]}.json"
    said = {"format": FORMAT, "digest": calibrator.digest, **asdict(calibrator)}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def read(path: Path) -> Calibrator:
    """Raises CalibratorInvalid for a file that breaks the format, or that was edited."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CalibratorInvalid(str(path), [f"not JSON: {error}"]) from error
    problems = _problems(said)
    if problems:
        raise CalibratorInvalid(str(path), problems)
    of = Scored(**{**said["of"], "labels": tuple(said["of"]["labels"])})
    plain = {name: said[name] for name in _names(Calibrator) if name in said}
    shares = said.get("shares")
    calibrator = Calibrator(
        **{**plain, "of": of, "mean": tuple(said["mean"]), "shares": shares and tuple(shares)}
    )
    if said["digest"] != calibrator.digest:
        raise CalibratorInvalid(str(path), ["it was edited: its digest does not fit; fit it again"])
    return calibrator


def read_all(folder: Path) -> dict[Scored, Calibrator]:
    """The calibrators of a folder by what they serve.

    Raises CalibratorInvalid, also for two files that serve the same.
    """
    found: dict[Scored, Path] = {}
    calibrators: dict[Scored, Calibrator] = {}
    for path in sorted(folder.glob("*.json")):
        calibrator = read(path)
        if calibrator.of in found:
            raise CalibratorInvalid(
                str(path), [f"it serves what {found[calibrator.of].name} serves: keep one of them"]
            )
        found[calibrator.of], calibrators[calibrator.of] = path, calibrator
    return calibrators


def _mean(
    table: Array, method: Calibration, content_free: Sequence[Sequence[float]] | Array, labels: int
) -> tuple[Array, int]:
    if method == "none":
        return np.full(labels, 1 / labels), 0
    over = np.asarray(content_free, dtype=np.float64) if method == "content_free" else table
    least = 1 if method == "content_free" else BATCH_LEAST
    if len(over) < least:
        raise CalibratorInvalid(
            method, [f"it needs at least {least} questions, not {len(over)}: use content_free, or ask more"]
        )
    return mean_probabilities(over), len(over)


def _problems(said: Any) -> list[str]:
    if not isinstance(said, Mapping) or said.get("format") != FORMAT:
        return [f"must be a JSON object of format {FORMAT}"]
    of = said.get("of")
    if not isinstance(of, Mapping) or set(of) != set(_names(Scored)):
        return [f"'of' must hold {', '.join(_names(Scored))}"]
    labels, mean = of["labels"], said.get("mean")
    problems = []
    if said.get("method") not in get_args(Calibration):
        problems.append(f"'method' must be one of {', '.join(get_args(Calibration))}")
    if not _are_shares(mean, len(labels)):
        problems.append("'mean' must hold one share above 0 a label")
    if (shares := said.get("shares")) is not None and not _are_shares(shares, len(labels)):
        problems.append("'shares' must hold one share above 0 a label")
    temperature = said.get("temperature")
    if not isinstance(temperature, int | float) or not temperature > 0:
        problems.append("'temperature' must be above 0")
    return problems


def _are_shares(value: Any, labels: int) -> bool:
    """Whether there is one a label, each in (0, 1]."""
    known = isinstance(value, list) and len(value) == labels
    return known and all(isinstance(one, int | float) and 0 < one <= 1 for one in value)


def _names(record: type) -> list[str]:
    return [field.name for field in fields(record)]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
