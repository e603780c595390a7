"""Logged turns become training data and worked examples, with what must not leak left out and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prompts.listing import same_text

Row = Mapping[str, Any]  # a logged turn with its recipe, see docs/experiments.md
Made = dict[str, Any]
Messages = list[dict[str, str]]  # {"role", "content"}
Render = Callable[[Row], Messages | None]  # None: this turn's prompt cannot be made
MOST_PER_UNIT = 20
LEAST_UNITS = 2  # whose thumbs an answer needs to become a worked example without a person's look
NO = ("no", "false", "0", "off")  # of the metadata key `training`: the caller keeps it out


@dataclass(slots=True)
class Guards:
    """What every view respects; `dropped` says how often each was the reason, and for which."""

    held_out: Collection[str] = ()  # `same_text` of inputs kept for judging
    most_per_unit: int = MOST_PER_UNIT
    split_salt: str = "fewshot"
    dropped: Counter[str] = field(default_factory=Counter)

    def usable(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Turns whose text is there and may be used."""
        for row in rows:
            reason = self._reason(row)
            if reason is None:
                yield row
            else:
                self.dropped[reason] += 1

    def split(self, unit: str) -> str:
        """train .8, validation .1, test .1: all rows of a unit fall into one part."""
        hashed = hashlib.sha256(f"{self.split_salt}\x1f{unit}".encode()).digest()
        place = int.from_bytes(hashed[:8], "big") / 2**64
        return "train" if place < 0.8 else "validation" if place < 0.9 else "test"

    def capped(self, made: Iterable[Made]) -> Iterator[Made]:
        """At most so many rows of a unit, the earliest; equal rows once."""
        of_unit: Counter[str] = Counter()
        seen: set[str] = set()
        for one in made:
            unit = one["provenance"]["unit"]
            said = repr(
                {key: value for key, value in one.items() if key not in ("id", "provenance", "split")}
            )
            if said in seen:
                self.dropped["the same row again"] += 1
            elif of_unit[unit] >= self.most_per_unit:
                self.dropped[f"more than {self.most_per_unit} rows of one unit"] += 1
            else:
                seen.add(said)
                of_unit[unit] += 1
                yield one

    def _reason(self, row: Row) -> str | None:
        if row.get("asked") is None or row.get("outputs") is None:
            return "no text kept, or erased"
        if str((row.get("metadata") or {}).get("training", "")).lower() in NO:
            return "its caller keeps it out of training"
        if row.get("failed") or row.get("cancelled"):
            return "no whole answer"
        if not row["outputs"] or not row["outputs"][0].strip():
            return "no words in the answer"
        question = question_of(row)
        if not question:
            return "no question"
        return "kept for judging (held out)" if same_text(question) in self.held_out else None


def question_of(row: Row) -> str:
    """The caller's last message."""
    asked = row.get("asked") or []
    return str(asked[-1]["text"]) if asked and asked[-1]["role"] == "user" else ""


def opinion(row: Row) -> float | None:
    """The newest thumb or rating, 0..1; None: nobody said anything."""
    said = [one for one in row.get("feedback") or () if one["kind"] in ("thumb", "rating")]
    return float(said[-1]["value"]) if said else None


def correction(row: Row) -> str | None:
    """The newest answer that somebody says should have been given."""
    said = [one for one in row.get("feedback") or () if one["kind"] == "correction"]
    return str(said[-1]["value"]) if said else None


def as_sent(row: Row) -> Messages | None:
    """The prompt as the model read it."""
    messages = row.get("messages") or ()
    return [{"role": one["role"], "content": one["text"]} for one in messages] or None


def sft(
    rows: Iterable[Row], guards: Guards, *, render: Render = as_sent, threshold: float = 0.5
) -> Iterator[Made]:
    """Prompt and completion: the correction, else the model's own answer where it was liked enough."""

    def made() -> Iterator[Made]:
        for row in guards.usable(rows):
            better, liked = correction(row), opinion(row)
            if better is None and (liked is None or liked < threshold):
                guards.dropped["neither corrected nor liked"] += 1
                continue
            prompt = render(row)
            if prompt is None:
                guards.dropped["its prompt cannot be made"] += 1
                continue
            yield {
                "prompt": prompt,
                "completion": _assistant(better if better is not None else row["outputs"][0]),
                "written_by": "person" if better is not None else "model",
                "score": 1.0 if better is not None else liked,
                "split": guards.split(row["unit"]),
                "provenance": provenance(row),
            }

    return guards.capped(made())


def pairs(rows: Iterable[Row], guards: Guards, *, render: Render = as_sent) -> Iterator[Made]:
    """Chosen before rejected: a correction before what it corrects; a liked answer before a disliked one to
    the same question over the same sources.
    """

    def made() -> Iterator[Made]:
        liked: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
        disliked: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
        for row in guards.usable(rows):
            output, better, said = row["outputs"][0], correction(row), opinion(row)
            if better is not None and better != output:
                yield from _pair(row, better, output, "correction", row, guards, render)
            if said is not None and said != 0.5:
                same = same_text(question_of(row)), tuple(row.get("chunks") or ())
                (liked if said > 0.5 else disliked).setdefault(same, []).append(row)
        for same, good in liked.items():
            for up, down in zip(good, disliked.get(same, []), strict=False):
                if up["outputs"][0] != down["outputs"][0]:
                    yield from _pair(
                        up, up["outputs"][0], down["outputs"][0], "feedback", down, guards, render
                    )

    return guards.capped(made())


def demos(rows: Iterable[Row], guards: Guards, *, review: list[Made]) -> Iterator[Made]:
    """Lines of a demonstration pool: corrections, and answers that units liked independently of each other.

    What one unit alone liked goes to `review`, for a person to look at.
    """

    def made() -> Iterator[Made]:
        liked: dict[tuple[str, str], list[Row]] = {}
        for row in guards.usable(rows):
            better = correction(row)
            if better is not None:
                yield _demo(row, better, "correction")
            elif (opinion(row) or 0.0) > 0.5:
                liked.setdefault((same_text(question_of(row)), row["outputs"][0]), []).append(row)
        for alike in liked.values():
            line = _demo(alike[0], alike[0]["outputs"][0], "feedback")
            if len({row["unit"] for row in alike}) >= LEAST_UNITS:
                yield line
            else:
                review.append(line)

    return guards.capped(made())


def provenance(row: Row) -> Made:
    """The way back to the turn: one request to delete it reaches every row."""
    names = ("turn", "unit", "at", "experiment", "arm", "template", "template_sha256", "adapter_sha256")
    return {name: row.get(name) for name in names}


def _pair(
    row: Row, chosen: str, rejected: str, kind: str, other: Row, guards: Guards, render: Render
) -> Iterator[Made]:
    prompt = render(row)
    if prompt is None:
        guards.dropped["its prompt cannot be made"] += 1
        return
    yield {
        "prompt": prompt,
        "chosen": _assistant(chosen),
        "rejected": _assistant(rejected),
        "from": kind,
        "split": guards.split(row["unit"]),
        "provenance": {**provenance(row), "rejected_turn": other["turn"], "rejected_unit": other["unit"]},
    }


def _demo(row: Row, output: str, kind: str) -> Made:
    return {
        "id": f"d-{row['turn']}",
        "input": question_of(row),
        "output": output,
        "provenance": {
            "kind": kind,
            "split": "demos",
            "turn": row["turn"],
            "unit": row["unit"],
            "at": row["at"],
            "by": None,
            "licence": None,
        },
    }


def _assistant(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def held_out_inputs(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """`same_text` of whatever a judged item calls its input."""
    names = ("input", "question", "text")
    return {same_text(str(row[name])) for row in rows for name in names if row.get(name)}
