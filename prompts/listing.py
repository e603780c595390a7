"""Demonstration files: JSONL in, checked lines out."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from prompts.errors import PoolInvalid
from prompts.records import Demo

KNOWN = ("id", "input", "output", "label", "tags", "provenance")
MANY = 20  # problems listed before the rest is only counted


class Listing(NamedTuple):
    demos: tuple[Demo, ...]  # in file order
    digest: str  # sha256 over the canonical lines that were kept
    duplicates: tuple[str, ...]  # ids of lines left out because an earlier one says the same


def parse_lines(lines: Iterable[str], where: str) -> Listing:
    """The worked examples in JSONL lines; exact duplicates (same input, output and label) are left out.

    Blank lines are skipped. Raises PoolInvalid listing problems with their line numbers.
    """
    problems: list[str] = []
    demos: dict[str, Demo] = {}
    said: dict[tuple[str, str, str | None], str] = {}
    duplicates: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        demo = _demo(line, number, problems)
        if demo is None:
            continue
        if demo.id in demos or demo.id in duplicates:
            problems.append(f"line {number}: the id {demo.id!r} occurs twice")
            continue
        content = (same_text(demo.input), demo.output, demo.label)
        if content in said:
            duplicates.append(demo.id)
            continue
        said[content] = demo.id
        demos[demo.id] = demo
    if len(problems) > MANY:
        problems = [*problems[:MANY], f"and {len(problems) - MANY} more"]
    if problems:
        raise PoolInvalid(where, problems)
    return Listing(tuple(demos.values()), _digest(demos.values()), tuple(duplicates))


def same_text(text: str) -> str:
    """What two texts share when they say the same: sha256 over NFKC, lower-case letters and digits."""
    bare = "".join(char for char in unicodedata.normalize("NFKC", text).lower() if char.isalnum())
    return hashlib.sha256((bare or text).encode()).hexdigest()  # "?!" and "..." are not the same question


def _demo(line: str, number: int, problems: list[str]) -> Demo | None:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        problems.append(f"line {number}: not JSON ({error.msg})")
        return None
    except UnicodeEncodeError:
        problems.append(f"line {number}: half a character (a lone surrogate); write it whole")
        return None
    except RecursionError:
        problems.append(f"line {number}: nested too deep")
        return None
    if not isinstance(row, dict):
        problems.append(f"line {number}: must be a JSON object")
        return None
    found = [
        *_missing(row),
        *_unfit(row),
        *(f"{key!r} is not a known key" for key in row if key not in KNOWN),
    ]
    if found:
        problems.append(f"line {number}: {'; '.join(found)}")
        return None
    label = row.get("label")
    unit = (row.get("provenance") or {}).get("unit")
    return Demo(row["id"], row["input"], row["output"], label, tuple(row.get("tags") or ()), unit)


def _missing(row: dict[str, Any]) -> list[str]:
    return [f"{key!r} must be text that is not empty" for key in KNOWN[:3] if not _is_text(row.get(key))]


def _unfit(row: dict[str, Any]) -> list[str]:
    label, tags, provenance = row.get("label"), row.get("tags") or [], row.get("provenance")
    problems = []
    if label is not None and not _is_text(label):
        problems.append("'label' must be text")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        problems.append("'tags' must be a list of texts")
    if isinstance(provenance, dict) and provenance.get("split") not in (None, "demos"):
        problems.append("'provenance.split' must be 'demos': items kept for judging must not be shown")
    elif provenance is not None and not isinstance(provenance, dict):
        problems.append("'provenance' must be an object")
    if isinstance(provenance, dict) and not isinstance(provenance.get("unit"), str | None):
        problems.append("'provenance.unit' must be text")
    return problems


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _digest(demos: Iterable[Demo]) -> str:
    digest = hashlib.sha256()
    for demo in demos:
        row = [demo.id, demo.input, demo.output, demo.label, demo.tags]
        digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()
