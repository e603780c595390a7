"""One TOML table, read strictly: every surprise becomes a problem, and reading goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

Choice = TypeVar("Choice", bound=str)


class Fields:
    """Takes known keys out of a table; `close` reports those that nobody asked for.

    A getter returns its default when the key is absent or unfit; unfit and required-but-absent keys are
    added to `problems`.
    """

    def __init__(self, table: Mapping[str, Any], where: str, problems: list[str]) -> None:
        self._table = table
        self.where = where
        self._asked: set[str] = set()
        self.problems = problems

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, str, "text", required=default is None)
        return value if isinstance(value, str) else (default or "")

    def integer(self, key: str, *, least: int = 0, required: bool = False) -> int | None:
        value = self._take(key, int, "a whole number", required)
        if isinstance(value, int) and value < least:
            self.complain(f"{self._named(key)} must be at least {least}")
            return None
        return value if isinstance(value, int) else None

    def number(self, key: str, *, least: float, most: float) -> float | None:
        value = self._take(key, (int, float), "a number", required=False)
        if value is None:
            return None
        if not least <= value <= most:
            self.complain(f"{self._named(key)} must lie in {least:g}..{most:g}")
            return None
        return float(value)

    def flag(self, key: str) -> bool:
        return bool(self._take(key, bool, "true or false", required=False))

    def choice(self, key: str, literal: Any, default: Choice) -> Choice:
        """One of the values of a Literal type; `default` when absent."""
        choices = get_args(literal)
        value = self._take(key, str, "text", required=False)
        if value is None or value in choices:
            return default if value is None else value
        self.complain(f"{self._named(key)} must be one of {', '.join(choices)}, not {value!r}")
        return default

    def optional(self, key: str, literal: Any) -> Any:
        """One of the values of a Literal type; None when absent or unfit."""
        return self.choice(key, literal, "") or None

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, list, "a list of texts", required=False)
        if isinstance(value, list):
            if all(isinstance(item, str) for item in value):
                return tuple(value)
            self.complain(f"{self._named(key)} must be a list of texts")
        return ()

    def choices(self, key: str, literal: Any, default: tuple[Choice, ...]) -> tuple[Choice, ...]:
        """Values of a Literal type, each at most once; `default` when absent."""
        values = self.texts(key)
        unknown = sorted(set(values) - set(get_args(literal)))
        if unknown or len(set(values)) < len(values):
            self.complain(f"{self._named(key)} must list some of {', '.join(get_args(literal))}, each once")
            return default
        return values or default  # type: ignore[return-value]  # checked against the literal

    def table(self, key: str) -> Fields:
        value = self._take(key, dict, "a table", required=False)
        return Fields(value if isinstance(value, dict) else {}, self._named(key), self.problems)

    def tables(self, key: str) -> list[Fields]:
        value = self._take(key, list, "a list of tables", required=False)
        rows = value if isinstance(value, list) else []
        fit = [row for row in rows if isinstance(row, dict)]
        if len(fit) < len(rows):
            self.complain(f"{self._named(key)} must be a list of tables")
        return [Fields(row, f"{self._named(key)}[{at}]", self.problems) for at, row in enumerate(fit, 1)]

    def rest(self) -> Iterator[tuple[str, Any]]:
        """The keys not asked for yet; asking for them here makes them known."""
        for key in [key for key in self._table if key not in self._asked]:
            self._asked.add(key)
            yield key, self._table[key]

    def complain(self, problem: str) -> None:
        self.problems.append(problem)

    def close(self) -> None:
        unknown = sorted(set(self._table) - self._asked)
        self.problems.extend(f"{self._named(key)} is not a known key" for key in unknown)

    def _take(self, key: str, kind: type | tuple[type, ...], spoken: str, required: bool) -> Any:
        self._asked.add(key)
        if key not in self._table:
            if required:
                self.complain(f"{self._named(key)} is missing")
            return None
        value = self._table[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.complain(f"{self._named(key)} must be {spoken}")
            return None
        return value

    def _named(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key
