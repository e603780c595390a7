"""Attribute filters in OpenAI's grammar: parsed whole, every problem named by its place.

    {"type": "gte", "key": "year", "value": 2020}
    {"type": "and", "filters": [{"type": "in", "key": "lang", "value": ["de", "en"]}, …]}

A document without the attribute fails every comparison but `ne` and `nin`. So does one whose value
is of another type: 2020 and "2020" are not equal, and neither is less.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from indexer.errors import FilterInvalid, FilterProblem
from indexer.records import Attribute

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Junction = Literal["and", "or"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
ORDERED = ("gt", "gte", "lt", "lte")
JUNCTIONS: tuple[Junction, ...] = get_args(Junction)
DEEPEST = 4  # levels of filters in filters
MOST_LEAVES = 32
MOST_VALUES = 1000  # in the list of one `in`
LONGEST_KEY = 64
SIGNS: dict[str, Operator] = {
    "==": "eq", "!=": "ne", ">=": "gte", "<=": "lte", "=": "eq", ">": "gt", "<": "lt",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute against one value, or for `in` and `nin` against several."""

    operator: Operator
    key: str
    values: tuple[Attribute, ...]  # one, but for `in` and `nin`
    at: str = field(default="", compare=False, repr=False)  # its place in what was asked, for messages


@dataclass(frozen=True, slots=True)
class Compound:
    """All of the filters (`and`) or at least one (`or`)."""

    junction: Junction
    filters: tuple["Filter", ...]


Filter = Comparison | Compound


class _Read(NamedTuple):
    problems: list[FilterProblem]
    leaves: list[str]  # the places of the comparisons


def parse_filter(value: Any, at: str = "filters") -> Filter:
    """The filter in decoded JSON; raises `FilterInvalid` with all problems, their places below `at`."""
    read = _Read([], [])
    found = _filter(value, at, 1, read)
    if len(read.leaves) > MOST_LEAVES:
        read.problems.append(
            FilterProblem(at, f"has {len(read.leaves)} comparisons; {MOST_LEAVES} are the most")
        )
    if read.problems or found is None:
        raise FilterInvalid.of(read.problems)
    return found


def read_filter(text: str, at: str = "filter") -> Filter:
    """A filter as typed on a command line: JSON, or `KEY SIGN VALUE`; raises `FilterInvalid`.

    Signs are = != > >= < <= and the words in, nin (values then separated by commas). A value that
    reads as a JSON number, true, false or a quoted string is that; anything else is a string.
    """
    if text.lstrip().startswith("{"):
        try:
            return parse_filter(json.loads(text), at)
        except (json.JSONDecodeError, RecursionError) as error:
            raise FilterInvalid.of([FilterProblem(at, f"is not JSON: {error}")]) from error
    key, operator, value = _split(text, at)
    many = operator in ("in", "nin")
    values = [_literal(item) for item in value.split(",")] if many else _literal(value)
    return parse_filter({"type": operator, "key": key, "value": values}, at)


def comparisons(wanted: Filter) -> Iterator[Comparison]:
    """All comparisons in a filter."""
    if isinstance(wanted, Comparison):
        yield wanted
    else:
        for part in wanted.filters:
            yield from comparisons(part)


def kind_of(value: Attribute) -> str:
    """`string`, `number` or `boolean`: values of two kinds are never equal."""
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _filter(value: Any, at: str, depth: int, read: _Read) -> Filter | None:
    """None after adding what is wrong with it."""
    if not isinstance(value, dict):
        _wrong(read, at, "must be an object with `type`")
        return None
    if depth > DEEPEST:
        _wrong(read, at, f"is nested deeper than {DEEPEST} levels")
        return None
    kind = value.get("type")
    if kind is None:
        _wrong(read, f"{at}.type", "is missing")
        return None
    if kind in JUNCTIONS:
        return _compound(value, at, depth, read)
    if kind not in OPERATORS:
        _wrong(read, f"{at}.type", f"must be one of {', '.join((*OPERATORS, *JUNCTIONS))}")
        return None
    read.leaves.append(at)
    return _comparison(value, at, read)


def _compound(value: dict[str, Any], at: str, depth: int, read: _Read) -> Compound | None:
    _refuse_others(value, {"type", "filters"}, at, read)
    parts = value.get("filters")
    if not isinstance(parts, list) or not parts:
        _wrong(read, f"{at}.filters", "must be a list of one filter or more")
        return None
    if len(parts) > MOST_LEAVES:
        _wrong(read, f"{at}.filters", f"has {len(parts)} filters; {MOST_LEAVES} are the most")
        return None
    found = [_filter(part, f"{at}.filters[{n}]", depth + 1, read) for n, part in enumerate(parts)]
    return Compound(value["type"], tuple(part for part in found if part is not None))


def _comparison(value: dict[str, Any], at: str, read: _Read) -> Comparison | None:
    _refuse_others(value, {"type", "key", "value"}, at, read)
    operator, key = value["type"], value.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        _wrong(read, f"{at}.key", f"must be a string of 1 to {LONGEST_KEY} characters")
        key = ""
    values = value.get("value")
    if operator in ("in", "nin"):
        if not isinstance(values, list) or len(values) > MOST_VALUES:
            _wrong(read, f"{at}.value", f"must be a list of at most {MOST_VALUES} values for {operator}")
            return None
        places = [(f"{at}.value[{n}]", item) for n, item in enumerate(values)]
    else:
        places = [(f"{at}.value", values)]
    return Comparison(operator, key, tuple(_value(item, operator, here, read) for here, item in places), at)


def _value(value: Any, operator: str, at: str, read: _Read) -> Attribute:
    if isinstance(value, bool) and operator in ORDERED:
        _wrong(read, at, f"must be a number or a string for {operator}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(number := float(value)):
                return number
        except OverflowError:
            pass
        _wrong(read, at, "must be a finite number")
    elif not isinstance(value, str | bool):
        what = "is missing" if value is None else "must be a string, a number or true or false"
        _wrong(read, at, what)
    else:
        return value
    return ""


def _refuse_others(value: dict[str, Any], known: set[str], at: str, read: _Read) -> None:
    for name in value:
        if name not in known:
            _wrong(read, f"{at}.{str(name)[:LONGEST_KEY]}", f"is unknown; {value['type']} takes "
                   f"{' and '.join(sorted(known - {'type'}))}")  # fmt: skip


def _wrong(read: _Read, at: str, message: str) -> None:
    read.problems.append(FilterProblem(at, message))


def _split(text: str, at: str) -> tuple[str, str, str]:
    words = text.split(None, 2)
    if len(words) == 3 and words[1].lower() in ("in", "nin"):
        return words[0], words[1].lower(), words[2]
    places = [(text.find(sign), -len(sign), sign) for sign in SIGNS if text.find(sign) > 0]
    if not places:
        raise FilterInvalid.of(
            [FilterProblem(at, f"'{text}' is no filter: write KEY = VALUE (or != > >= < <= in nin), or JSON")]
        )
    start, _, sign = min(places)  # the first, and of those that begin there the longest
    return text[:start].strip(), SIGNS[sign], text[start + len(sign) :].strip()


def _literal(text: str) -> Any:
    try:
        value = json.loads(text.strip(), parse_constant=str)
    except (json.JSONDecodeError, RecursionError):
        return text.strip()
    return value if isinstance(value, str | int | float) else text.strip()
