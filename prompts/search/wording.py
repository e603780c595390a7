"""What of a template a search may change, and how a changed template is written down.

The instruction is the prose of the system part: its first paragraph that holds no placeholder. Everything
else, the list of the labels above all, stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prompts.records import Demo

SHINGLE = 8  # words that a candidate may not share with an item it is judged by
LONGEST = 2.0  # times the tokens of the original
WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
BARE = re.compile(r"[A-Za-z0-9_-]+")


def instruction_of(system: str) -> str:
    """The first paragraph without placeholders; empty where there is none."""
    return next((one for one in _paragraphs(system) if _is_prose(one)), "")


def with_instruction(system: str, instruction: str) -> str:
    """The system part with another instruction, in the place of its own or before everything."""
    paragraphs = _paragraphs(system)
    places = [at for at, one in enumerate(paragraphs) if _is_prose(one)]
    if places:
        paragraphs[places[0]] = instruction
    else:
        paragraphs.insert(0, instruction)
    return "\n\n".join(one for one in paragraphs if one)


def ablations(system: str) -> list[str]:
    """The system part less one sentence of its prose, in turn."""
    found = []
    paragraphs = _paragraphs(system)
    for at, paragraph in enumerate(paragraphs):
        if not _is_prose(paragraph):
            continue
        sentences = SENTENCE.split(paragraph)
        for gone in range(len(sentences)):
            left = " ".join(sentences[:gone] + sentences[gone + 1 :])
            found.append("\n\n".join(one for one in [*paragraphs[:at], left, *paragraphs[at + 1 :]] if one))
    return list(dict.fromkeys(found))


def changed(table: Mapping[str, Any], *, version: int, system: str, demos: Sequence[Demo]) -> bytes:
    """The file of the template's next version.

    It shows `demos` to every question and picks none by question, for that is how it was measured. Written
    with every key of `table` that the change leaves valid; comments do not survive.
    """
    parts = {**table.get("parts", {}), "system": system}
    rows = [
        {"input": demo.input, "output": demo.output, **({"label": demo.label} if demo.label else {})}
        for demo in demos
    ]
    rest = {key: value for key, value in table.items() if key not in ("parts", "fewshot", "demos", "version")}
    whole = {**rest, "version": version, "parts": parts}
    return _toml({**whole, "demos": rows} if rows else whole).encode()


def leaks(text: str, parent: str, inputs: Sequence[str]) -> str | None:
    """The first SHINGLE words in a row that the text shares with an input and its parent does not."""
    own = set(_shingles(text)) - set(_shingles(parent))
    for one in inputs:
        for shingle in _shingles(one):
            if shingle in own:
                return " ".join(shingle)
    return None


def _shingles(text: str) -> Iterator[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    yield from (tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1))


def _paragraphs(system: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n\s*\n", system.strip("\n")) if part.strip()]


def _is_prose(paragraph: str) -> bool:
    return "{" not in paragraph and not paragraph.lstrip().startswith("-")


def _toml(table: Mapping[str, Any]) -> str:
    """TOML of plain values, tables and lists of tables; values before tables."""
    lines: list[str] = []
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lists = {key: value for key, value in table.items() if _is_tables(value)}
    for key, value in table.items():
        if key not in tables and key not in lists:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tables.items():
        lines += ["", f"[{_key(key)}]", *(f"{_key(name)} = {_value(one)}" for name, one in value.items())]
    for key, rows in lists.items():
        for row in rows:
            lines += ["", f"[[{_key(key)}]]", *(f"{_key(name)} = {_value(one)}" for name, one in row.items())]
    return "\n".join(lines).strip("\n") + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())} }}"
    # a JSON string is a basic TOML string, except that TOML also wants DEL escaped
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)
