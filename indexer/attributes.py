"""The attributes of a store's documents as columns, and which chunks a filter allows.

Columns are sparse (row, value) lists: a key of few documents costs little, and a publication adds
its rows at the end. Nothing is taken out: what has died is hidden by the generation.
"""

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.errors import FilterInvalid, FilterProblem
from indexer.filters import Comparison, Compound, Filter, comparisons, kind_of
from indexer.records import Attribute
from indexer.seams import Ids

REMEMBERED = 16  # filters whose allowed chunks are kept while nothing is published
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip
T = TypeVar("T", bound=np.generic)
Mask = NDArray[np.bool_]


class Described(NamedTuple):
    """A chunk with the document it belongs to and that document's attributes."""

    chunk: int
    document: int
    attributes: Mapping[str, Attribute]


class Attributes:
    """One store's columns. Safe to use from several threads."""

    def __init__(self) -> None:
        self.last = 0  # the highest chunk id taken in; ids only rise, so newer chunks are above
        self._lock = threading.Lock()
        self._chunks = _Grown(np.int64)
        self._document_of = _Grown(np.int32)  # of each chunk: a row number of ours
        self._documents = 0
        self._columns: dict[tuple[str, str], _Column] = {}  # by key and kind of value
        self._known: OrderedDict[str, Ids] = OrderedDict()

    def add(self, described: Iterable[Described]) -> None:
        """Take in chunks with ids above `last`, in order of their ids."""
        with self._lock:
            chunks: list[int] = []
            rows: list[int] = []
            before: int | None = None
            for chunk, document, attributes in described:
                if document != before:  # a document's chunks follow each other
                    before = document
                    self._describe(attributes)
                chunks.append(chunk)
                rows.append(self._documents - 1)
            if chunks:
                self._chunks.extend(chunks)
                self._document_of.extend(rows)
                self.last = chunks[-1]
                self._known.clear()

    def kinds(self) -> dict[str, set[str]]:
        """Attribute names with the kinds of their values: string, number, boolean."""
        found: dict[str, set[str]] = {}
        with self._lock:
            for key, kind in self._columns:
                found.setdefault(key, set()).add(kind)
        return found

    def allowed(self, wanted: Filter) -> Ids:
        """Sorted ids of the chunks that the filter lets through, dead ones included."""
        with self._lock:
            name = repr(wanted)  # not the filter itself: to Python True equals 1.0
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
            passing = self._mask(wanted)
            chunks = self._chunks.values[passing[self._document_of.values]]
            self._known[name] = chunks
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return chunks

    def _describe(self, attributes: Mapping[str, Attribute]) -> None:
        row = self._documents
        self._documents += 1
        for key, value in attributes.items():
            kind = kind_of(value)
            column = self._columns.get((key, kind))
            if column is None:
                column = self._columns[key, kind] = _Words() if kind == "string" else _Numbers()
            column.add(row, value)

    def _mask(self, wanted: Filter) -> Mask:
        """True for the documents that pass, shape (documents,)."""
        if isinstance(wanted, Compound):
            join = np.logical_and if wanted.junction == "and" else np.logical_or
            return np.asarray(join.reduce([self._mask(part) for part in wanted.filters]), dtype=np.bool_)
        mask = np.zeros(self._documents, dtype=np.bool_)
        for kind in {kind_of(value) for value in wanted.values}:
            column = self._columns.get((wanted.key, kind))
            if column is not None:
                mask[column.rows(wanted, kind)] = True
        return ~mask if wanted.operator in ("ne", "nin") else mask


def check_kinds(wanted: Filter, stores: Iterable[Attributes]) -> None:
    """Raise `FilterInvalid` for comparisons with a kind of value that the attribute never has.

    An attribute that no document has is no error: nothing is equal to it.
    """
    kinds: dict[str, set[str]] = {}
    for store in stores:
        for key, some in store.kinds().items():
            kinds.setdefault(key, set()).update(some)
    wrong = []
    for one in comparisons(wanted):
        have = kinds.get(one.key, set())
        asked = {kind_of(value) for value in one.values}
        if have and asked - have:
            said = f"compares '{one.key}', which holds {' and '.join(sorted(have))} values, with a "
            wrong.append(FilterProblem(f"{one.at}.value", said + " and a ".join(sorted(asked - have))))
    if wrong:
        raise FilterInvalid.of(wrong)


class _Column:
    """Which documents have a value, and which one."""

    def __init__(self) -> None:
        self._rows = _Grown(np.int32)

    def add(self, row: int, value: Any) -> None:
        raise NotImplementedError

    def rows(self, wanted: Comparison, kind: str) -> NDArray[np.int32]:
        """Rows for which the comparison holds; for `ne` and `nin`, those for which it does not."""
        raise NotImplementedError


class _Numbers(_Column):
    """Numbers, and true and false as 1 and 0."""

    def __init__(self) -> None:
        super().__init__()
        self._values = _Grown(np.float64)

    def add(self, row: int, value: Any) -> None:
        self._rows.append(row)
        self._values.append(float(value))

    def rows(self, wanted: Comparison, kind: str) -> NDArray[np.int32]:
        values = [float(value) for value in wanted.values if kind_of(value) == kind]
        if wanted.operator in _COMPARE:
            holds: Mask = _COMPARE[wanted.operator](self._values.values, values[0])
            return self._rows.values[holds]
        return self._rows.values[np.isin(self._values.values, values)]


class _Words(_Column):
    """Strings, each distinct one kept once; ordered by code points."""

    def __init__(self) -> None:
        super().__init__()
        self._codes = _Grown(np.int32)
        self._code_of: dict[str, int] = {}

    def add(self, row: int, value: Any) -> None:
        self._rows.append(row)
        self._codes.append(self._code_of.setdefault(value, len(self._code_of)))

    def rows(self, wanted: Comparison, kind: str) -> NDArray[np.int32]:
        words = [value for value in wanted.values if isinstance(value, str)]
        if wanted.operator in _COMPARE:
            compare, limit = _COMPARE[wanted.operator], words[0]
            codes = [code for word, code in self._code_of.items() if compare(word, limit)]
        else:
            codes = [self._code_of[word] for word in words if word in self._code_of]
        chosen = np.zeros(len(self._code_of), dtype=np.bool_)
        chosen[codes] = True
        return self._rows.values[chosen[self._codes.values]]


class _Grown(Generic[T]):
    """An array that grows at its end in amortised constant time."""

    def __init__(self, kind: type[T]) -> None:
        self._held: NDArray[T] = np.empty(0, dtype=kind)
        self._size = 0

    @property
    def values(self) -> NDArray[T]:
        return self._held[: self._size]

    def append(self, value: Any) -> None:
        self._reserve(1)
        self._held[self._size] = value
        self._size += 1

    def extend(self, values: list[Any]) -> None:
        self._reserve(len(values))
        self._held[self._size : self._size + len(values)] = values
        self._size += len(values)

    def _reserve(self, more: int) -> None:
        if self._size + more > len(self._held):
            grown = np.empty(max(8, self._size + more, 2 * self._size), dtype=self._held.dtype)
            grown[: self._size] = self._held[: self._size]
            self._held = grown
