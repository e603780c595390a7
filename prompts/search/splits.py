"""Items to show, to search by and to judge by. What is in one is in no other, nor nearly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prompts.errors import SearchRefused
from prompts.listing import same_text
from prompts.records import Demo
from prompts.seams import Embed

NEAR = 0.95
NAMES = ("demos", "search", "held_out")
QUESTION, LABEL, ANSWER = (
    ("text", "question", "input"),
    ("label_name", "label"),
    ("output", "answer", "answers"),
)


class Splits(NamedTuple):
    demos: tuple[Demo, ...]
    search: tuple[Demo, ...]
    held_out: tuple[Demo, ...]
    dropped: int = 0  # of demos and search, since a later split says the same


class Most(NamedTuple):
    """How many of each split are used, drawn by hash."""

    demos: int = 200
    search: int = 300
    held_out: int = 1000


def read_splits(folder: Path, labels: Sequence[str], most: Most, embed: Embed) -> Splits:
    """The splits in a folder: demos.jsonl, search.jsonl, held_out.jsonl, or a pack's train and test part.

    A train part is split in two by hash, and loses what says the same as a test item. Files of one's own must
    be disjoint, by input and by cosine: raises SearchRefused naming two rows that are not.
    """
    if (folder / "demos.jsonl").is_file():
        rows = [_read(folder / f"{name}.jsonl", labels) for name in NAMES]
        own = True
    else:
        base = folder / "dev" if (folder / "dev").is_dir() else folder
        train, test = _read(base / "train.jsonl", labels), _read(base / "test.jsonl", labels)
        halves: list[list[Demo]] = [[], []]
        for row in train:
            halves[_hash(row.input)[0] % 2].append(row)
        rows, own = [*halves, test], False
    sizes = (most.demos, most.search, most.held_out)
    chosen = [
        sorted(part, key=lambda row: _hash(row.input))[:size] for part, size in zip(rows, sizes, strict=True)
    ]
    return disjoint(*chosen, embed=embed, refuse=own)


def disjoint(
    demos: Sequence[Demo], search: Sequence[Demo], held_out: Sequence[Demo], *, embed: Embed, refuse: bool
) -> Splits:
    """Without what a later split says too; with `refuse` such a row raises SearchRefused."""
    parts = [list(demos), list(search), list(held_out)]
    vectors = [
        np.asarray(embed([row.input for row in part]), np.float32) if part else np.empty((0, 1), np.float32)
        for part in parts
    ]
    dropped = 0
    for at in (1, 0):
        later = [row for part in parts[at + 1 :] for row in part]
        others = np.concatenate(
            [one for one in vectors[at + 1 :] if len(one)] or [np.empty((0, 1), np.float32)]
        )
        said = {same_text(row.input): row for row in later}
        kept = []
        for place, row in enumerate(parts[at]):
            twin = said.get(same_text(row.input))
            if twin is None and len(others):
                cosines = others @ vectors[at][place]
                twin = later[int(cosines.argmax())] if cosines.max() > NEAR else None
            if twin is None:
                kept.append(place)
            elif refuse:
                raise SearchRefused(
                    f"{NAMES[at]} and a later split say the same: {row.id!r}, {twin.id!r}; remove one of them"
                )
        dropped += len(parts[at]) - len(kept)
        parts[at], vectors[at] = [parts[at][place] for place in kept], vectors[at][kept]
    for name, part, least in zip(NAMES, parts, (4, 20, 20), strict=True):
        if len(part) < least:
            raise SearchRefused(f"{name} holds {len(part)} rows; at least {least} are needed")
    return Splits(tuple(parts[0]), tuple(parts[1]), tuple(parts[2]), dropped)


def _read(path: Path, labels: Sequence[str]) -> list[Demo]:
    if not path.is_file():
        raise SearchRefused(
            f"{path} is missing: a folder needs demos, search and held_out, or train and test"
        )
    found = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = _row(line, f"{path.stem}-{number}", labels)
                if row is None:
                    raise SearchRefused(f"{path}, line {number}: needs a text and a label or an answer")
                if not labels or row.label in labels:
                    found.append(row)
    return found


def _row(line: str, name: str, labels: Sequence[str]) -> Demo | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    text = next((row[key] for key in QUESTION if isinstance(row.get(key), str)), None)
    label = next((row[key] for key in LABEL if isinstance(row.get(key), str)), None)
    answer = next((row[key] for key in ANSWER if row.get(key)), label)
    answer = answer[0] if isinstance(answer, list) else answer
    if text is None or not isinstance(answer, str) or (labels and label is None):
        return None
    return Demo(name, text, answer, label)


def _hash(text: str) -> bytes:
    return hashlib.sha256(f"search\n{text}".encode()).digest()
