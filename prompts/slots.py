"""Values that callers give, held against the slots that a template declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prompts.errors import SlotProblem
from prompts.records import Slot, Template

QUESTION = Slot(type="text", trust="user")  # when a template does not declare its own
_TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "choice": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": (list, tuple),
}
_SCHEMA: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "choice": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}


def check(template: Template, values: Mapping[str, object]) -> dict[str, object]:
    """The values, with empty text for optional slots left out.

    Raises SlotProblem naming every missing, unknown, wrongly typed and over-long value together.
    """
    slots = {"question": QUESTION, **template.slots}
    problems: dict[str, list[str]] = {"missing": [], "too_long": [], "unfit": []}
    complete: dict[str, object] = {}
    for name, slot in slots.items():
        value = values.get(name)
        if value is None:
            complete[name] = [] if slot.type == "list" else ""
            problems["missing"] += [] if slot.optional else [name]
        elif not _fits(slot, value):
            problems["unfit"].append(f"{name} (wants {_wanted(slot)})")
        elif slot.max_chars is not None and _chars(value) > slot.max_chars:
            problems["too_long"].append(f"{name} ({_chars(value)} of {slot.max_chars} characters)")
        else:
            complete[name] = value
    unknown = sorted(values.keys() - slots.keys())
    if unknown or any(problems.values()):
        raise SlotProblem(template.reference, unknown=unknown, declared=sorted(slots), **problems)
    return complete


def schema(template: Template) -> dict[str, Any]:
    """A JSON Schema of the values that a caller may give."""
    slots = {"question": QUESTION, **template.slots}
    return {
        "type": "object",
        "properties": {name: _property(slot) for name, slot in slots.items()},
        "required": sorted(name for name, slot in slots.items() if not slot.optional),
        "additionalProperties": False,
    }


def _fits(slot: Slot, value: object) -> bool:
    if isinstance(value, bool) and slot.type != "boolean":
        return False
    if not isinstance(value, _TYPES[slot.type]):
        return False
    if slot.type == "choice":
        return value in slot.choices
    return slot.type != "list" or all(isinstance(item, str) for item in value)  # type: ignore[attr-defined]


def _wanted(slot: Slot) -> str:
    return f"one of {', '.join(slot.choices)}" if slot.choices else slot.type


def _chars(value: object) -> int:
    return sum(map(len, value)) if isinstance(value, (list, tuple)) else len(str(value))


def _property(slot: Slot) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if slot.choices:
        limits["enum"] = list(slot.choices)
    elif slot.max_chars is not None and slot.type == "text":
        limits["maxLength"] = slot.max_chars
    return {**_SCHEMA[slot.type], **limits}
