"""Labelled files → one split that every rung sees; what cannot be learned from is refused by line."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prompts.listing import same_text
from training.errors import DataRefused
from training.records import Example, Split

VALID_SHARE = 0.1
LEAST_PER_LABEL = 2


def read_split(folder: Path, *, limit: int | None = None, seed: int = 11) -> Split:
    """A folder with train.jsonl, test.jsonl and, if there is one, valid.jsonl, as {id?, text, label} lines.

    `labels.json` (in the folder or above it) maps labels to names. Without valid.jsonl a tenth of the
    training part, every label in its share, is set aside by a hash of the text. `limit` keeps at most so
    many training examples, drawn by hash. Rows of the training part whose text stands in the test or
    validation part too (letters and digits compared) leave it, and are counted.

    Raises DataRefused with file and line.
    """
    if not folder.is_dir():
        raise DataRefused(f"no folder {folder}: give one with train.jsonl and test.jsonl")
    parts = {name: folder / f"{name}.jsonl" for name in ("train", "valid", "test")}
    for name in ("train", "test"):
        if not parts[name].is_file():
            raise DataRefused(f'{folder} has no {name}.jsonl: every line {{"text": …, "label": …}}')
    rows = {name: list(read_rows(path)) for name, path in parts.items() if path.is_file()}
    names = _label_names(folder)
    labels = sorted({label for part in rows.values() for _, _, label in part}, key=_natural)
    _check_labels(labels, rows, folder)
    number = {label: at for at, label in enumerate(labels)}
    examples = {
        name: [Example(id, text, number[label]) for id, text, label in part] for name, part in rows.items()
    }
    test, valid = examples["test"], examples.get("valid", [])
    forbidden = {same_text(one.text) for one in [*test, *valid]}
    train = [one for one in examples["train"] if same_text(one.text) not in forbidden]
    removed = len(examples["train"]) - len(train)
    if not valid:
        train, valid = _set_aside(train, seed)
    if limit is not None:
        train = list(drawn(train, limit, seed))
    missing = set(range(len(labels))) - {one.label for one in train}
    if missing:
        raise DataRefused(
            f"the training part of {folder} has no example of "
            f"{', '.join(labels[at] for at in sorted(missing))}: add some, or drop the label elsewhere"
        )
    return Split(
        name=folder.parent.name if folder.name in ("dev", "data") else folder.name,
        labels=tuple(names.get(label, label) for label in labels),
        train=tuple(train),
        valid=tuple(valid),
        test=tuple(test),
        digest=digest_of(*([[one.id, one.text, one.label] for one in part] for part in (train, valid, test))),
        removed=removed,
    )


def read_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, text, label) of each line. Raises DataRefused naming the first line that is none."""
    for line, row in read_objects(path):
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or not text.strip():
            raise DataRefused(f'{path}, line {line}: "text" must be text with something in it')
        if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
            raise DataRefused(f'{path}, line {line}: "label" must be a name or a whole number, not {label!r}')
        yield str(row.get("id", f"{path.stem}-{line}")), text, str(label)


def read_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, object) of a JSONL file; empty lines are skipped. Raises DataRefused."""
    found = False
    try:
        with path.open(encoding="utf-8") as lines:
            for line, raw in enumerate(lines, 1):
                if not raw.strip():
                    continue
                try:
                    row = json.loads(raw)
                except json.JSONDecodeError as problem:
                    raise DataRefused(f"{path}, line {line}: not JSON ({problem.msg})") from problem
                if not isinstance(row, dict):
                    raise DataRefused(f"{path}, line {line}: an object is wanted, not {type(row).__name__}")
                found = True
                yield line, row
    except OSError as problem:
        raise DataRefused(f"{path} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise DataRefused(f"{path} is not UTF-8: save it as UTF-8 first") from problem
    if not found:
        raise DataRefused(f"{path} holds no rows")


def _check_labels(labels: list[str], rows: Mapping[str, list[tuple[str, str, str]]], folder: Path) -> None:
    if len(labels) < 2:
        raise DataRefused(f"{folder} has one label only ({labels[0]!r}): two are the least to tell apart")
    counts = Counter(label for _, _, label in rows["train"])
    few = [label for label in labels if counts[label] < LEAST_PER_LABEL]
    if few:
        raise DataRefused(
            f"{folder}/train.jsonl has fewer than {LEAST_PER_LABEL} examples of {', '.join(few[:5])}: "
            "one is needed to learn from and one to check with"
        )


def _set_aside(train: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Stratified: the texts of smallest hash of every label go to the validation part."""
    taken: set[str] = set()
    for label in {one.label for one in train}:
        texts = sorted({one.text for one in train if one.label == label}, key=lambda text: _draw(text, seed))
        taken |= set(texts[: max(1, round(len(texts) * VALID_SHARE))])
    return [one for one in train if one.text not in taken], [one for one in train if one.text in taken]


def drawn(part: Sequence[Example], count: int, seed: int = 11) -> tuple[Example, ...]:
    """`count` of the examples, by a hash of their text; a larger count keeps what a smaller one drew."""
    return tuple(part[at] for at in places_drawn(part, count, seed))


def places_drawn(part: Sequence[Example], count: int, seed: int = 11) -> list[int]:
    """Where in `part` those stand that `drawn` gives, in the same order."""
    if count >= len(part):
        return list(range(len(part)))
    return sorted(range(len(part)), key=lambda at: _draw(part[at].text, seed))[:count]


def _draw(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _natural(label: str) -> tuple[int, int, str]:
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)


def _label_names(folder: Path) -> dict[str, str]:
    for place in (folder / "labels.json", folder.parent / "labels.json"):
        if place.is_file():
            found = json.loads(place.read_text(encoding="utf-8"))
            if isinstance(found, dict) and all(isinstance(name, str) for name in found.values()):
                return {str(label): name for label, name in found.items()}
    return {}


def digest_of(*parts: Iterable[Sequence[Any]]) -> str:
    """SHA-256 of what the rows of the parts of a split say, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        for row in part:
            digest.update(json.dumps(row).encode())
        digest.update(b"\0")
    return digest.hexdigest()
