"""The people of `make loop`, as a client's program would stand for them: they ask, and say what they think.

Their questions and corrections are real (deploy/loop_data/README.md). Their thumbs on live traffic are made
by a rule: up when the answer shares enough words with what counts as right.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

from prompts.listing import same_text
from prompts.matching import token_f1

CORRECTION = ("correction", "corrected", "chosen")
ANSWERS = ("answers", "gold", "reference")
LEAST = 30  # questions: fewer say nothing about anything
AT_ONCE = 8
T = TypeVar("T")
R = TypeVar("R")


class DataRefused(Exception):
    """The rows cannot be walked with; the message names the line and what it lacks."""


class ArmChanged(Exception):
    """A user met two arms, which must never be."""


@dataclass(frozen=True, slots=True)
class Case:
    question: str
    correction: str  # what a person wrote where the model was wrong
    answers: tuple[str, ...]  # what counts as right


class Parts(NamedTuple):
    """Three parts that share no question."""

    corrected: tuple[Case, ...]  # asked first, corrected, trained on
    judged: tuple[Case, ...]  # of the offline gate; never exported
    live: tuple[Case, ...]  # asked by the experiment's users


class Answered(NamedTuple):
    id: str
    text: str
    arm: str | None  # experiment/arm, of the answer's header
    adapter: str | None


def read_cases(path: Path) -> list[Case]:
    """The questions of a JSONL file, each once, with the answers of all its rows.

    Rows whose correction is empty are left out. Raises DataRefused.
    """
    if not path.is_file():
        raise DataRefused(
            f"there is no file {path}: JSON lines with a question, a correction (or chosen) and answers, "
            "if there are; or leave DATA out for the sample in deploy/loop_data"
        )
    found: dict[str, Case] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise DataRefused(f"{path}, line {number}: not JSON") from None
        row = row if isinstance(row, dict) else {}
        if isinstance(row.get("question"), str) and any(
            row.get(name, 0) in ("", None) for name in CORRECTION
        ):
            continue
        case = _case(row)
        if case is None:
            raise DataRefused(
                f"{path}, line {number}: needs a question and one of {', '.join(CORRECTION)}, all texts"
            )
        before = found.setdefault(same_text(case.question), case)
        answers = tuple(dict.fromkeys((*before.answers, *case.answers)))
        found[same_text(case.question)] = replace(before, answers=answers)
    if len(found) < LEAST:
        raise DataRefused(
            f"{path} has {len(found)} questions; {LEAST} are the least to train, judge and serve"
        )
    return list(found.values())


def part(cases: Sequence[Case]) -> Parts:
    """Half is corrected, a quarter judges, a quarter is live; drawn by a hash of the question."""
    drawn = sorted(cases, key=lambda case: hashlib.sha256(same_text(case.question).encode()).digest())
    half, quarter = len(drawn) // 2, len(drawn) // 4
    return Parts(tuple(drawn[:half]), tuple(drawn[half : half + quarter]), tuple(drawn[half + quarter :]))


class People:
    """Everybody who uses the server at `url`."""

    def __init__(self, url: str, model: str, *, max_tokens: int, seconds: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=seconds)
        self._model, self._max_tokens = model, max_tokens

    def close(self) -> None:
        self._client.close()

    def ask(self, user: str, question: str) -> Answered:
        """Raises httpx.HTTPError."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self._max_tokens,
            "user": user,
        }
        response = self._client.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        said = response.json()
        text = str(said["choices"][0]["message"]["content"] or "")
        headers = response.headers
        return Answered(said["id"], text, headers.get("x-fewshot-arm"), headers.get("x-fewshot-adapter"))

    def feel(self, answer: str, metric: str, value: bool | str) -> None:
        """Raises httpx.HTTPError."""
        body = {"id": answer, "metric": metric, "value": value}
        self._client.post("/v1/feedback", json=body).raise_for_status()

    def correct(self, cases: Sequence[Case]) -> int:
        """Each question asked by somebody of their own, disliked and corrected; how many answers differed."""

        def one(numbered: tuple[int, Case]) -> bool:
            at, case = numbered
            answer = self.ask(f"author-{at}", case.question)
            self.feel(answer.id, "thumb", False)
            self.feel(answer.id, "correction", case.correction)
            return answer.text != case.correction

        return sum(_at_once(one, enumerate(cases)))

    def visit(self, cases: Sequence[Case], users: Iterable[int], enough: float) -> dict[int, str]:
        """Each user asks and judges, every tenth asks again. The arm that served each.

        `enough`: the token F1 from which an answer gets a thumb up. Raises ArmChanged.
        """

        def one(number: int) -> tuple[int, str]:
            user, case = f"visitor-{number}", cases[number % len(cases)]
            first = self.ask(user, case.question)
            self.feel(first.id, "thumb", token_f1(first.text, case.answers) >= enough)
            if number % 10 == 0:
                again = self.ask(user, cases[(number + 1) % len(cases)].question)
                if again.arm != first.arm:
                    raise ArmChanged(f"{user} met {first.arm}, then {again.arm}")
            return number, first.arm or "none"

        return dict(_at_once(one, users))


def _at_once(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts the walk waits for those inside alone


def _case(row: dict[str, Any]) -> Case | None:
    question, correction = row.get("question"), _first(row, CORRECTION)
    answers = _first(row, ANSWERS)
    if isinstance(answers, str):
        answers = [answers]
    if not all(isinstance(one, str) and one.strip() for one in (question, correction)):
        return None
    if answers is None:
        answers = [correction]
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers) or not answers:
        return None
    return Case(str(question), str(correction), tuple(answers))


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)
