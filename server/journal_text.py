"""How the journal spells records as JSON."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from operator import attrgetter
from typing import Any

import orjson

from prompts.records import Message


def as_json(value: Any) -> str:
    """Compact JSON, as `json.dumps` without blanks and escapes has it, of records too."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # a number that 64 bits do not hold, in somebody's schema
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=asdict)


def flat(record: Any) -> dict[str, Any]:
    """The fields of a record of slots; records inside it as they are, where `asdict` would copy them all."""
    kind: Any = type(record)
    names, values = _fields(kind)
    return dict(zip(names, values(record), strict=True))


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(kind.__slots__)
    return names, attrgetter(*names)


def spoken(message: Message) -> dict[str, Any]:
    """A message without what it has not."""
    if not message.calls and message.answers is None:  # nearly every one
        return {"role": message.role, "text": message.text}
    return {name: value for name, value in flat(message).items() if value or name == "text"}
