"""Answers that people compared, by question: rows or a pack of d-* → one cut that every method of RLHF sees.

Rows of JSONL, one comparison each, in any of these shapes; rows of one prompt are one question:

    {"prompt" or "messages": …, "chosen": …, "rejected": …}            `fewshot export pairs`; HH-RLHF
    {"question": …, "chosen": …, "rejected": …, "qid"?}                QA-Feedback, beside questions.jsonl
    {"instruction": …, "input": …, "response1", "response2", "majority"}   PandaLM; ties are left out

`reference` (or `gold` in questions.jsonl) is what a person answered. `split` may say train, valid or test;
questions without it are cut by a hash of their id, so that no question stands in two parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from training.data import read_objects
from training.dialogues import PARTS, Dialogue, Dialogues, Messages, answer_of, prompt_of
from training.errors import DataRefused

TEST_SHARE, VALID_SHARE = 0.3, 0.1
PAIRS, QUESTIONS = "pairs.jsonl", "questions.jsonl"
GROUNDED = "Answer the question from the sources in one short paragraph.\n\n{sources}\n\nQuestion: {question}"


class Question(NamedTuple):
    """One prompt with all its compared answers; `pairs` name them by number, the preferred one first."""

    id: str
    prompt: Messages | str
    answers: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    reference: str | None  # what a person answered

    @property
    def asked(self) -> str:
        """All text of the prompt."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(one["content"] for one in self.prompt)


class Preferences(NamedTuple):
    train: tuple[Question, ...]
    valid: tuple[Question, ...]
    test: tuple[Question, ...]
    digest: str  # of the files

    @property
    def everything(self) -> tuple[Question, ...]:
        return self.train + self.valid + self.test


class _Gathered:
    """A question while its rows are read."""

    def __init__(self, id: str, prompt: Messages | str, reference: str | None, part: str | None) -> None:
        self.id, self.prompt, self.reference, self.part = id, prompt, reference, part
        self.answers: dict[str, int] = {}
        self.pairs: dict[tuple[int, int], None] = {}

    def add(self, chosen: str, rejected: str) -> None:
        numbers = tuple(self.answers.setdefault(one, len(self.answers)) for one in (chosen, rejected))
        self.pairs[numbers[0], numbers[1]] = None

    def done(self) -> Question:
        return Question(self.id, self.prompt, tuple(self.answers), tuple(self.pairs), self.reference)


def read_preferences(path: Path) -> Preferences:
    """A JSONL file, or a folder with pairs.jsonl. Raises DataRefused with file and line."""
    file = path / PAIRS if path.is_dir() else path
    if not file.is_file():
        raise DataRefused(f"{path} has no {PAIRS}: name a JSONL file or a folder with one")
    beside = file.parent / QUESTIONS
    known = _known(beside) if beside.is_file() else {}
    gathered: dict[str, _Gathered] = {}
    for line, row in read_objects(file):
        if "response1" in row and (row.get("majority") not in (1, 2) or not _both_said(row)):
            continue  # a tie, three people of three minds, or a model that said nothing
        prompt, id = _asked(row, known, file, line)
        chosen, rejected = _compared(row, file, line)
        if chosen == rejected:
            raise DataRefused(f"{file}, line {line}: chosen and rejected are the same")
        if id not in gathered:
            found = known.get(str(row.get("qid")), {})
            reference = row.get("reference", found.get("gold"))
            gathered[id] = _Gathered(
                id, prompt, str(reference).strip() or None if reference else None, _part(row, file, line)
            )
        gathered[id].add(chosen, rejected)
    parts: dict[str, list[Question]] = {name: [] for name in PARTS}
    for one in gathered.values():
        parts[one.part or drawn_part(one.id)].append(one.done())
    for name in PARTS:
        if not parts[name]:
            raise DataRefused(
                f"{file} has no question for the {name} part ({len(gathered)} questions in all): add "
                'questions, or say "split" in the rows'
            )
    return Preferences(
        tuple(parts["train"]),
        tuple(parts["valid"]),
        tuple(parts["test"]),
        _digest([file, beside] if known else [file]),
    )


def dialogues(found: Preferences, columns: tuple[str, ...]) -> Dialogues:
    """The cut for demonstrations ("completion",) or pairs ("chosen", "rejected"), without the test part.

    A demonstration is what a person answered, or else every answer that was preferred at least once.
    """

    def rows(part: tuple[Question, ...]) -> tuple[Dialogue, ...]:
        made = []
        for number, one in enumerate(part, 1):
            if len(columns) == 2:
                some = [(one.answers[better], one.answers[worse]) for better, worse in one.pairs]
            elif one.reference is not None:
                some = [(one.reference,)]  # type: ignore[list-item]
            else:
                some = [(one.answers[at],) for at in sorted({better for better, _ in one.pairs})]  # type: ignore[misc]
            made += [Dialogue(number, one.prompt, answers) for answers in some]
        return tuple(made)

    return Dialogues(rows(found.train), rows(found.valid), found.digest)


def drawn_part(id: str) -> str:
    """The part of a question, by its id alone: the same in every command, whatever the seed."""
    share = int.from_bytes(hashlib.sha256(f"preferences\0{id}".encode()).digest()[:4]) / 2**32
    return "test" if share < TEST_SHARE else "valid" if share < TEST_SHARE + VALID_SHARE else "train"


def grounded(question: str, passages: list[Mapping[str, str]]) -> Messages:
    """One message of the user: the sources, numbered, then the question."""
    sources = "\n\n".join(f"[{at}] {one['title']}\n{one['text']}" for at, one in enumerate(passages, 1))
    return [{"role": "user", "content": GROUNDED.format(sources=sources, question=question)}]


def _asked(
    row: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]], file: Path, line: int
) -> tuple[Messages | str, str]:
    """(prompt, id of the question)"""
    if "instruction" in row:
        said = "\n\n".join(str(row.get(name) or "") for name in ("instruction", "input")).strip()
        prompt: Messages | str = [{"role": "user", "content": said}] if said else ""
    elif "question" in row:
        found = known.get(str(row.get("qid")))
        if found is not None:
            return grounded(str(found["question"]), found["passages"]), str(row["qid"])
        prompt = [{"role": "user", "content": str(row["question"])}]
    else:
        prompt = row["messages"] if row.get("messages") else row.get("prompt")  # type: ignore[assignment]
    prompt = prompt_of(prompt, file, line)
    return prompt, hashlib.sha256(json.dumps(prompt).encode()).hexdigest()[:16]


def _both_said(row: Mapping[str, Any]) -> bool:
    return all(str(row.get(name) or "").strip() for name in ("response1", "response2"))


def _compared(row: Mapping[str, Any], file: Path, line: int) -> tuple[str, str]:
    if "response1" in row:
        better = int(row["majority"])
        row = {  # a few answers are a bare number or true
            name: one if isinstance(one, str) else json.dumps(one)
            for name, one in row.items()
            if name in ("response1", "response2")
        }
        names = (f"response{better}", f"response{3 - better}")
    else:
        names = ("chosen", "rejected")
    return answer_of(row.get(names[0]), names[0], file, line), answer_of(
        row.get(names[1]), names[1], file, line
    )


def _part(row: Mapping[str, Any], file: Path, line: int) -> str | None:
    said = {"validation": "valid"}.get(str(row.get("split")), row.get("split"))
    if said is not None and said not in PARTS:
        raise DataRefused(f"{file}, line {line}: split is {said!r}, not one of {', '.join(PARTS)}")
    return said


def _known(path: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for line, row in read_objects(path):
        passages = row.get("passages")
        whole = isinstance(passages, list) and all(
            isinstance(one, Mapping) and {"title", "text"} <= set(one) for one in passages
        )
        if not whole or not isinstance(row.get("question"), str) or "id" not in row:
            raise DataRefused(f"{path}, line {line}: id, question and passages (title, text) are wanted")
        found[str(row["id"])] = row
    return found


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
