"""Which index a segment gets, and why: a table as a function."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from indexer.errors import IndexOptionRefused

Kind = Literal["flat", "ivf", "hnsw", "cagra", "milvus"]
Precision = Literal["float32", "float16"]
Device = Literal["cpu", "cuda"]

KINDS = ("auto", "flat", "ivf", "hnsw", "milvus")  # cagra is built on a card when a store is opened there
PRECISIONS = ("auto", "float32", "float16")
FEW = 50_000  # rows scanned in a few milliseconds: nothing is gained by guessing
GPU_FLAT = 20_000_000  # rows that a card scans within the time a search takes anyway
COLLECTION = 4_000  # rows worth a collection of their own in a Milvus server
LINKS = 32  # of a graph's node; twice as many in its lowest layer
DEGREE = 64  # of a CAGRA graph's node
TARGET = 0.95


class Choice(NamedTuple):
    """What to build, in one sentence why."""

    kind: Kind
    precision: Precision
    parameters: Mapping[str, int]
    why: str


class Wanted(NamedTuple):
    """What the operator asked for: `stores.options["index"]`."""

    kind: str = "auto"
    precision: str = "auto"
    recall: float = TARGET  # of the true ten nearest, on average
    uri: str = ""  # of the Milvus server, for kind milvus alone


def wanted(options: Mapping[str, object]) -> Wanted:
    """The settings as read from a store; raises `IndexOptionRefused` naming the one that is wrong."""
    if unknown := sorted(options.keys() - set(Wanted._fields)):
        raise IndexOptionRefused(f"no index option '{unknown[0]}': there are {', '.join(Wanted._fields)}")
    given: Any = options
    asked = Wanted(**given)
    if asked.kind not in KINDS:
        raise IndexOptionRefused(f"index kind '{asked.kind}' is none of {', '.join(KINDS)}")
    if asked.precision not in PRECISIONS:
        raise IndexOptionRefused(f"index precision '{asked.precision}' is none of {', '.join(PRECISIONS)}")
    if not isinstance(asked.recall, int | float) or not 0.5 <= asked.recall <= 1.0:
        raise IndexOptionRefused(f"index recall {asked.recall!r} is not a number from 0.5 to 1")
    if not isinstance(asked.uri, str) or bool(asked.uri) != (asked.kind == "milvus"):
        raise IndexOptionRefused("index kind 'milvus' and a uri, its server's address, belong together")
    return asked


def choose(rows: int, dimension: int, asked: Wanted, memory_bytes: int, device: Device = "cpu") -> Choice:
    """The index for `rows` vectors on a device with that much memory, as far as `asked` leaves it open."""
    if device == "cuda":
        return _on_card(rows, dimension, asked, memory_bytes)
    wide = 4 * rows * dimension
    half = asked.precision == "float16" or (asked.precision == "auto" and wide > memory_bytes // 4)
    precision: Precision = "float16" if half else "float32"
    kind, why = _on_cpu(rows, wide // 2 if half else wide, asked, memory_bytes)
    if half and asked.precision == "auto":
        why += f"; 16 bits a number, because 32 would take more than a quarter of {_size(memory_bytes)}"
    return Choice(kind, precision, _parameters(kind, rows), why)


def _on_cpu(rows: int, size: int, asked: Wanted, memory_bytes: int) -> tuple[Kind, str]:
    if asked.kind == "milvus":
        if rows < COLLECTION:
            return "flat", f"{rows:,} rows are too few for a collection of their own"
        return "milvus", f"asked for: {asked.uri}"
    if asked.kind != "auto":
        for kind in ("flat", "ivf", "hnsw"):
            if kind == asked.kind:
                return kind, "asked for"
    if rows < FEW:
        return "flat", f"{rows:,} rows are scanned whole in milliseconds"
    if asked.recall >= 1.0:
        return "flat", "a recall of 1 is asked for, which only the whole scan gives"
    graph = rows * (LINKS * 2 * 4 + 4)  # links, and a position in a list
    if size + graph > memory_bytes // 2:
        return "ivf", (
            f"rows and graph ({_size(size + graph)}) do not fit half of {_size(memory_bytes)}: "
            "lists are read from the disk as they are probed"
        )
    return "hnsw", f"{rows:,} rows; a graph of {_size(graph)} finds recall {asked.recall:g} fastest"


def _on_card(rows: int, dimension: int, asked: Wanted, memory_bytes: int) -> Choice:
    size = 2 * rows * dimension
    if asked.kind in ("flat", "ivf"):
        kind: Kind = "flat" if asked.kind == "flat" else "ivf"
        return Choice(kind, "float16", _parameters(kind, rows), "asked for")
    if size > memory_bytes:
        raise IndexOptionRefused(
            f"{rows:,} vectors take {_size(size)} in 16 bits, the card has {_size(memory_bytes)} to spare: "
            "search on the CPU (device cpu)"
        )
    if rows <= GPU_FLAT or asked.recall >= 1.0:
        return Choice("flat", "float16", {}, f"a card scans {rows:,} rows of 16-bit numbers in milliseconds")
    if 2 * size + rows * DEGREE * 4 <= memory_bytes:  # CAGRA keeps 32 bits
        return Choice(
            "cagra", "float32", {"degree": DEGREE}, f"{rows:,} rows; a graph beside them fits the card"
        )
    return Choice(
        "ivf", "float16", _parameters("ivf", rows), f"{rows:,} rows; a graph would not fit the card"
    )


def _parameters(kind: Kind, rows: int) -> Mapping[str, int]:
    lists = max(1, min(65_536, round(4 * math.sqrt(rows)), rows // 40))  # faiss's guidelines
    if kind == "ivf":
        return {"lists": lists}
    if kind == "hnsw":
        return {"links": LINKS, "lists": lists}
    return {"links": LINKS} if kind == "milvus" else {}


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**29 else f"{size_bytes / 2**20:.0f} MiB"
