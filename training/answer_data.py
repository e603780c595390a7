"""Questions with the answers they should get → one split that every rung sees, checked line by line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from prompts.listing import same_text
from training.data import VALID_SHARE, digest_of, read_objects
from training.errors import DataRefused
from training.records import Question, Questions

PARTS = ("train", "valid", "test")
Task = Literal["classify", "answer"]


def task_of(folder: Path) -> Task:
    """What the rows of train.jsonl ask for, by the first of them: labels, or answers.

    Raises DataRefused when they hold neither.
    """
    path = folder / "train.jsonl"
    if not path.is_file():
        return "classify"  # whose reader says what is missing
    _, row = next(iter(read_objects(path)))
    if "label" not in row and ("answers" in row or "answer" in row):
        return "answer"
    return "classify"


def read_questions(folder: Path, seed: int = 11) -> Questions:
    """A folder with train.jsonl, test.jsonl and, if there is one, valid.jsonl.

    Every line is {"question": …, "answers": [one or more that are right], "context"?: the passage to read,
    "id"?: …}; "answer" may hold a single one. Without valid.jsonl a tenth of the training part is set aside
    by a hash of the question. Training questions whose words stand in another part
    too leave it, and are counted. Raises DataRefused with file and line.
    """
    parts = {
        name: read_part(folder / f"{name}.jsonl")
        for name in PARTS
        if name != "valid" or (folder / "valid.jsonl").is_file()
    }
    test, valid = parts["test"], parts.get("valid", [])
    forbidden = {same_text(one.text) for one in [*test, *valid]}
    train = [one for one in parts["train"] if same_text(one.text) not in forbidden]
    removed = len(parts["train"]) - len(train)
    if not valid:
        drawn = sorted(train, key=lambda one: hashlib.sha256(f"{seed}\0{one.text}".encode()).digest())
        aside = {one.text for one in drawn[: max(1, round(len(train) * VALID_SHARE))]}
        valid = [one for one in train if one.text in aside]
        train = [one for one in train if one.text not in aside]
    if not train:
        raise DataRefused(f"{folder}/train.jsonl has no question that is not in the other parts too")
    return Questions(
        name=folder.parent.name if folder.name in ("dev", "data") else folder.name,
        train=tuple(train),
        valid=tuple(valid),
        test=tuple(test),
        digest=digest_of(
            *([[one.id, one.text, one.answers] for one in part] for part in (train, valid, test))
        ),
        removed=removed,
    )


def read_part(path: Path) -> list[Question]:
    """Raises DataRefused for a file that is missing, and for the first line that is no question."""
    if not path.is_file():
        raise DataRefused(
            f'{path.parent} has no {path.name}: lines {{"question": …, "answers": […]}}, and "context"'
        )
    found = []
    for line, row in read_objects(path):
        where = f"{path}, line {line}"
        question = _text(row.get("question"), "question", where)
        given = row.get("answers", row.get("answer"))
        answers = [given] if isinstance(given, str) else given
        if not isinstance(answers, list) or not answers:
            raise DataRefused(f'{where}: "answers" must be a list of texts with one at least')
        right = tuple(_text(one, "answers", where) for one in answers)
        context = row.get("context")
        if context is not None:
            question = f"{_text(context, 'context', where)}\n\nQuestion: {question}"
        found.append(Question(str(row.get("id", f"{path.stem}-{line}")), question, right))
    return found


def _text(value: Any, field: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataRefused(f'{where}: "{field}" must be text with something in it')
    return value.strip()
