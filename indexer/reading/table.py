"""Tables to text: CSV as one document, rows of JSON as one document each, other JSON as its values."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import orjson

from indexer.errors import DamagedDocument, NoText
from indexer.reading.decoding import clean, decode
from indexer.reading.sniffing import delimiter
from indexer.records import Attribute, Document, Reading, Section

MOST_ATTRIBUTES = 16
LONGEST_KEY = 64  # characters
LONGEST_VALUE = 512
_RESERVED = ("id", "_id", "title", "text")


def read_csv(data: bytes) -> Reading:
    """Every row as `header: value` pairs on a line, so that a row makes sense alone."""
    text = decode(data)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # of the whole process: only ever raised
    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text), delimiter=delimiter(text))
            if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise DamagedDocument(f"malformed CSV: {error}") from error
    if not rows:
        raise NoText("an empty table")
    header, *body = rows
    lines = [
        ", ".join(_pair(header, at, value) for at, value in enumerate(row) if value.strip()) for row in body
    ]
    uneven = [number for number, row in enumerate(body, start=2) if len(row) != len(header)]
    warnings = (
        f"malformed CSV: {len(uneven)} of {len(body)} rows differ from the header's {len(header)} fields, "
        f"first in row {uneven[0]}",
    ) if uneven else ()  # fmt: skip
    content = "\n".join(lines or [", ".join(header)]) + "\n"
    return Reading((Document("", (Section(content),), "csv"),), warnings=warnings)


def read_jsonl(data: bytes, first_line: int = 1) -> Reading:
    """One document per row; bad rows are reported by line number and the rest is read."""
    documents: list[Document] = []
    errors: list[str] = []
    for number, line in enumerate(decode(data).split("\n"), start=first_line):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            errors.append(f"line {number}: not JSON ({error})")
            continue
        problem = "not a JSON object" if not isinstance(row, dict) else None
        document = None if problem else _row(row)
        if document is None:
            errors.append(f"line {number}: {problem or 'no text in it'}")
        else:
            documents.append(document)
    return Reading(tuple(documents), tuple(errors))


def read_json(data: bytes) -> Reading:
    """An array of objects as rows; anything else as one document of `path: value` lines.

    Raises `DamagedDocument` when it is not JSON.
    """
    try:
        value = orjson.loads(decode(data))
    except orjson.JSONDecodeError as error:
        raise DamagedDocument(f"not JSON: {error}") from error
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        documents = [_row(row) for row in value]
        errors = [f"row {at}: no text in it" for at, made in enumerate(documents, start=1) if made is None]
        return Reading(tuple(made for made in documents if made is not None), tuple(errors))
    parts = value.items() if isinstance(value, dict) else [("", value)]
    sections = []
    for name, part in parts:
        text = "".join(f"{line}\n" for line in _values(part, name))
        headings = (clean(name),) if name and isinstance(part, dict | list) else ()
        sections.append(Section(clean(text) + "\n" * bool(headings), headings=headings))
    title = value.get("title") if isinstance(value, dict) else None
    named = clean(title) if isinstance(title, str) else ""
    return Reading((Document(named, tuple(section for section in sections if section.text), "json"),))


def _values(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _values(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        if any(isinstance(inner, dict | list) for inner in value):
            for inner in value:
                yield from _values(inner, path)
        elif value:
            yield f"{path}: {', '.join(map(str, value))}" if path else ", ".join(map(str, value))
    elif value not in (None, ""):
        yield f"{path}: {value}" if path else str(value)


def _row(row: dict[str, Any]) -> Document | None:
    title = clean(row["title"]) if isinstance(row.get("title"), str) else ""
    text = row.get("text")
    if isinstance(text, str):
        content = clean(text)
    else:  # no text of its own: what its fields say
        content = "\n".join(
            f"{key}: {clean(value)}"
            for key, value in row.items()
            if isinstance(value, str) and key not in _RESERVED
        )
    content = content if content.strip() else title
    if not content.strip():
        return None
    given = row.get("id", row.get("_id"))
    identity = clean(str(given)) if isinstance(given, str | int) and not isinstance(given, bool) else None
    return Document(
        title, (Section(content),), "jsonl", identity or None, _attributes(row, isinstance(text, str))
    )


def _attributes(row: dict[str, Any], texts: bool) -> dict[str, Attribute]:
    """Scalar fields within the limits of attributes; strings only where the text is elsewhere."""
    kept: dict[str, Attribute] = {}
    for key, value in row.items():
        if key in _RESERVED or len(key) > LONGEST_KEY or len(kept) == MOST_ATTRIBUTES:
            continue
        if isinstance(value, str) and texts and len(value) <= LONGEST_VALUE:
            kept[clean(key)] = clean(value)
        elif isinstance(value, bool):
            kept[clean(key)] = value
        elif isinstance(value, int | float) and math.isfinite(value):
            kept[clean(key)] = float(value)
    return kept


def _pair(header: list[str], at: int, value: str) -> str:
    name = header[at].strip() if at < len(header) else ""
    return f"{name}: {value.strip()}" if name else value.strip()
