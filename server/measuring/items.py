"""A data set as JSON lines: questions with the labels or the answers they should get."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTION = ("question", "text", "input")
LABEL = ("label_name", "label")
ANSWERS = ("answers", "answer", "reference", "output")


class DataRefused(Exception):
    """The data set cannot be used; the message names the line and what it lacks."""


@dataclass(frozen=True, slots=True)
class Item:
    id: str
    question: str
    label: str | None = None  # a label's id
    answers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # documents that a citation may rightly name


def read_items(path: Path, kind: str, most: int | None = None, seed: int = 7) -> list[Item]:
    """The items of a file, or `most` of them, drawn by `seed` and id. `kind` is labels or answers.

    Raises DataRefused for a line that is no JSON object, or lacks the question or what it should get.
    """
    items = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                items.append(_item(line, number, path, kind))
    if not items:
        raise DataRefused(f"{path} holds no items")
    if most is not None and most < len(items):
        drawn = sorted(items, key=lambda item: hashlib.sha256(f"{seed}\n{item.id}".encode()).digest())
        chosen = {id(item) for item in drawn[:most]}
        items = [item for item in items if id(item) in chosen]
    return items


def digest(items: list[Item]) -> str:
    """sha256 of what is asked and what should come, in order."""
    rows = [[item.id, item.question, item.label, item.answers, item.sources] for item in items]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def _item(line: str, number: int, path: Path, kind: str) -> Item:
    try:
        row = json.loads(line)
    except ValueError:
        raise DataRefused(f"{path}, line {number}: not JSON") from None
    if not isinstance(row, dict):
        raise DataRefused(f"{path}, line {number}: must be a JSON object")
    question = _first(row, QUESTION)
    if not isinstance(question, str) or not question.strip():
        raise DataRefused(f"{path}, line {number}: needs a text in one of {', '.join(QUESTION)}")
    name = str(row.get("id", number))
    if kind == "labels":
        label = _first(row, LABEL)
        if not isinstance(label, str):
            raise DataRefused(f"{path}, line {number}: needs a label's id, as text, in label_name or label")
        return Item(name, question, label=label)
    answers = _texts(_first(row, ANSWERS))
    if not answers:
        raise DataRefused(f"{path}, line {number}: needs text in one of {', '.join(ANSWERS)}")
    return Item(name, question, answers=answers, sources=_texts(row.get("sources", row.get("doc_ids"))))


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return ()
