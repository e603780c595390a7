"""Prompts with what should follow them: rows of JSONL → token ids as the serving engine would see them.

    {"prompt": …, "completion": …}              for `fewshot train lora` and the like
    {"prompt": …, "chosen": …, "rejected": …}   for preferences

Each value is text, or messages [{"role", "content"}]; `fewshot export sft|pairs` writes them. `split` may say
"train", "valid" or "test"; rows without it are cut by a hash of the prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from training.data import read_objects
from training.errors import BaseRefused, DataRefused

VALID_SHARE = 0.1
PARTS = ("train", "valid", "test")
Messages = list[dict[str, str]]


class Dialogue(NamedTuple):
    """One row: what was asked, and the continuations (one completion, or chosen and rejected)."""

    line: int
    prompt: Messages | str
    answers: tuple[str, ...]


class Encoded(NamedTuple):
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]  # each with the token that ends a turn


class Dialogues(NamedTuple):
    train: tuple[Dialogue, ...]
    valid: tuple[Dialogue, ...]
    digest: str  # of the file


def read_dialogues(path: Path, columns: Sequence[str], seed: int = 11) -> Dialogues:
    """Rows whose `columns` ("completion",) or ("chosen", "rejected") continue the prompt.

    Rows of a split "test" are left out. Raises DataRefused with the line.
    """
    parts: dict[str, list[Dialogue]] = {name: [] for name in PARTS}
    for line, row in read_objects(path):
        prompt = prompt_of(row.get("prompt"), path, line)
        answers = tuple(answer_of(row.get(column), column, path, line) for column in columns)
        if len(set(answers)) < len(answers):
            raise DataRefused(f"{path}, line {line}: chosen and rejected are the same")
        said = {"validation": "valid"}.get(str(row.get("split")), row.get("split"))
        if said is not None and said not in PARTS:
            raise DataRefused(f"{path}, line {line}: split is {said!r}, not one of {', '.join(PARTS)}")
        drawn = hashlib.sha256(f"{seed}\0{json.dumps(prompt)}".encode()).digest()[0] / 256
        parts[said or ("valid" if drawn < VALID_SHARE else "train")].append(Dialogue(line, prompt, answers))
    if len(parts["valid"]) == 0 and len(parts["train"]) > 1:
        parts["valid"] = [parts["train"].pop()]
    for name in ("train", "valid"):
        if not parts[name]:
            raise DataRefused(f"{path} has no row for the {name} part: at least two rows are needed")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Dialogues(tuple(parts["train"]), tuple(parts["valid"]), digest)


def encode(
    rows: Sequence[Dialogue], tokenizer: Any, room: int, where: Path
) -> tuple[tuple[Encoded, ...], int]:
    """Token ids, and how many rows were left out because they do not fit into `room` tokens.

    A prompt of messages goes through the chat template with its generation prompt, as the server renders it;
    a prompt of text stays as it is. Raises DataRefused when nothing fits.
    """
    found = []
    for row in rows:
        prompt = ids_of(row.prompt, tokenizer)
        end = tokenizer.eos_token_id
        answers = tuple((*tokenizer.encode(answer, add_special_tokens=False), end) for answer in row.answers)
        if prompt and len(prompt) + max(map(len, answers)) <= room:
            found.append(Encoded(prompt, answers))
    if not found:
        raise DataRefused(
            f"no row of {where} fits into {room} tokens: raise --max-tokens or shorten the prompts"
        )
    return tuple(found), len(rows) - len(found)


def ids_of(prompt: Messages | str, tokenizer: Any) -> tuple[int, ...]:
    """As the server renders them. Raises BaseRefused for messages where there is no chat template."""
    if isinstance(prompt, str):
        return tuple(tokenizer.encode(prompt))
    if not tokenizer.chat_template:
        raise BaseRefused("the base has no chat template: give prompts as text, or use a model made for chat")
    return tuple(
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
    )


def prompt_of(value: Any, path: Path, line: int) -> Messages | str:
    """Text, or messages with nothing but role and content. Raises DataRefused."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(map(is_message, value)):
        return [{"role": one["role"], "content": one["content"]} for one in value]
    raise DataRefused(f'{path}, line {line}: "prompt" must be text or a list of messages (role, content)')


def answer_of(value: Any, column: str, path: Path, line: int) -> str:
    """Text, also of a list of one message. Raises DataRefused."""
    if isinstance(value, list) and len(value) == 1 and is_message(value[0]):
        value = value[0]["content"]
    if isinstance(value, str) and value.strip():
        return value
    raise DataRefused(f'{path}, line {line}: "{column}" must be text, or one message of the assistant')


def is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))
