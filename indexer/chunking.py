"""How a store's documents are cut into chunks: a record, its notation, and what a store keeps of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from indexer import schema
from indexer.catalogue import Catalogue
from indexer.database import writing
from indexer.errors import ChunkingRefused
from indexer.records import Store

Strategy = Literal["auto", "static", "parent"]

LEAST_STATIC_TOKENS, MOST_TOKENS = 100, 4096  # OpenAI's bounds for max_chunk_size_tokens
LEAST_CHILD_TOKENS = 16
_NOTATION = re.compile(r"(auto|static|parent)(?::(\d{1,6})(?:/(\d{1,6}))?)?")
_WRITTEN = "write auto, static:800/400 (size/overlap) or parent:128/512 (chunk/passage), in tokens"


@dataclass(frozen=True, slots=True)
class Chunking:
    """A strategy and its numbers, in tokens of the store's embedder. Raises `ChunkingRefused`.

    auto: at headings, small sections together, as much as the embedder's window holds.
    static: `max_tokens` at a time, each chunk repeating up to `overlap_tokens` of the one before.
    parent: chunks of up to `max_tokens` to match, each with the passage of `parent_tokens` to read.
    """

    strategy: Strategy = "auto"
    max_tokens: int | None = None  # None: what the window holds
    overlap_tokens: int = 0
    parent_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no splitter could keep to."""
        size, overlap, passage = self.max_tokens, self.overlap_tokens, self.parent_tokens
        if self.strategy not in get_args(Strategy):
            raise ChunkingRefused(f"no chunking strategy '{self.strategy}': {_WRITTEN}")
        if self.strategy == "static":
            if size is None or not LEAST_STATIC_TOKENS <= size <= MOST_TOKENS:
                raise ChunkingRefused(
                    f"static chunks of {size} tokens: {LEAST_STATIC_TOKENS} to {MOST_TOKENS} are possible"
                )
            if not 0 <= overlap <= size // 2:
                raise ChunkingRefused(f"an overlap of {overlap} tokens: at most half of the chunk's {size}")
        elif overlap:
            raise ChunkingRefused("only static chunks overlap: static:SIZE/OVERLAP")
        if self.strategy == "parent":
            if size is None or passage is None or not LEAST_CHILD_TOKENS <= size <= passage <= MOST_TOKENS:
                raise ChunkingRefused(
                    f"chunks of {size} in passages of {passage} tokens: chunks have {LEAST_CHILD_TOKENS} "
                    f"or more, passages at least as many and at most {MOST_TOKENS}"
                )
        elif passage is not None:
            raise ChunkingRefused("only the strategy parent has passages: parent:CHUNK/PASSAGE")
        if self.strategy == "auto" and size is not None and not LEAST_CHILD_TOKENS <= size <= MOST_TOKENS:
            raise ChunkingRefused(
                f"chunks of {size} tokens: from {LEAST_CHILD_TOKENS} to {MOST_TOKENS} are possible"
            )

    def __str__(self) -> str:
        """As `parsed` reads it."""
        second = self.overlap_tokens if self.strategy == "static" else self.parent_tokens
        numbers = "/".join(str(number) for number in (self.max_tokens, second) if number is not None)
        return f"{self.strategy}:{numbers}" if numbers else self.strategy

    def as_options(self) -> dict[str, Any]:
        """Plain values to keep with a store."""
        return {
            "strategy": self.strategy,
            "max_tokens": self.max_tokens,
            "overlap_tokens": self.overlap_tokens,
            "parent_tokens": self.parent_tokens,
        }


def parsed(text: str) -> Chunking:
    """`auto`, `static:800/400` or `parent:128/512` (numbers may be left out); raises `ChunkingRefused`."""
    found = _NOTATION.fullmatch(text.strip().lower())
    if not found:
        raise ChunkingRefused(f"'{text}' is no way to cut documents: {_WRITTEN}")
    first, second = (int(number) if number else None for number in found.groups()[1:])
    match found[1]:
        case "static":
            size = first or 800
            return Chunking("static", size, size // 2 if second is None else second)
        case "parent":
            return Chunking("parent", first or 128, parent_tokens=second or 4 * (first or 128))
        case _:
            if second is not None:
                raise ChunkingRefused(f"'{text}': {_WRITTEN}")
            return Chunking("auto", first)


def of_options(options: Mapping[str, Any]) -> Chunking:
    """What `as_options` gave; a store that says nothing is cut as `auto`."""
    return Chunking(**options.get("chunking", {}))


def settle(catalogue: Catalogue, store: Store, asked: Chunking | None) -> Chunking:
    """The chunking of the store: what is asked for while it is empty, what it has from then on.

    Raises `ChunkingRefused` when other chunking is asked for than the store's chunks have.
    """
    stores = schema.stores
    with writing(catalogue.engine) as connection:
        mine = stores.c.id == store.id
        options = dict(connection.execute(sa.select(stores.c.options).where(mine)).scalar_one())
        kept = of_options(options)
        if asked is None or asked == kept:
            return kept
        chunks = schema.chunks
        used = sa.exists().where(chunks.c.store_id == store.id, chunks.c.died.is_(None))
        if connection.execute(sa.select(used)).scalar_one():
            raise ChunkingRefused(
                f"the documents of store '{store.name}' are cut as {kept}, not {asked}: "
                "leave the chunking out, or ingest into another store"
            )
        options["chunking"] = asked.as_options()
        connection.execute(sa.update(stores).where(mine).values(options=options))
    return asked
