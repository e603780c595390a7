"""Search with a deadline, off the event loop; and the one translation of hits into sources."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from indexer.errors import EmbedderMismatch, FilterInvalid, IndexerError, StoreExpired, UnknownStore
from indexer.records import Hit, Hits
from indexer.search import Mode, Refinement, Searcher
from prompts.records import Source
from server.errors import RetrievalUnavailable
from server.records import Search, SearchMode
from server.sources import SourceUse

T = TypeVar("T")
PATIENCE_SECONDS = 0.02  # some two searches of a million passages by both legs
LEGS: Mapping[SearchMode, Mode] = {"hybrid": "hybrid", "vector": "dense", "keyword": "keyword"}


class Turn:
    """One search at a time, unless one takes longer than the next will wait.

    A search is hundreds of short calls that let go of the interpreter and want it back at once. Alone beside
    a busy event loop it gets it; two of them take it from each other at every call, and both end later than
    one after the other would have (decision 0218). But nothing quick waits for something slow: a reranker,
    a filter that hides nearly all, a store on another machine.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._free = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Waited for, and given on afterwards; who lost patience has none to give."""
        mine = self._free.acquire(timeout=self._patience_seconds)
        try:
            yield
        finally:
            if mine:
                self._free.release()


class IndexRetriever:
    """The indexer's Searcher on threads of its own, so that a slow disk never stalls a stream."""

    def __init__(
        self, searcher: Searcher, *, timeout_seconds: float, threads: int, per_file: int | None = None
    ) -> None:
        """`per_file` bounds the hits of one document where a search does not say otherwise."""
        self._searcher = searcher
        self._per_file = per_file
        self._timeout_seconds = timeout_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._turn = Turn()

    async def search(self, question: str, search: Search, *, top: int) -> Hits:
        """Raises UnknownStore, StoreExpired or FilterInvalid; else RetrievalUnavailable.

        A failed search is never an empty one.
        """
        return await self.search_then(question, search, top=top, then=_hits)

    async def search_then(self, question: str, search: Search, *, top: int, then: Callable[[Hits], T]) -> T:
        """What `then` makes of the hits of `search`, on the thread that found them: one hand-over for both.

        The deadline is for both. Raises what `search` and `then` raise.
        """
        loop = asyncio.get_running_loop()

        def work() -> T:
            with self._turn.taken():
                hits = self._searcher.search(
                    question,
                    list(search.stores),
                    top=top,
                    mode=LEGS[search.mode],
                    refine=Refinement(
                        filter=search.filter,
                        threshold=search.threshold or 0.0,
                        per_file=search.per_file or self._per_file,
                        weights=search.weights,
                        rerank=search.rerank and self._searcher.reranks,
                    ),
                    tenant=search.tenant,
                )
                return then(hits)

        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise RetrievalUnavailable(
                f"the search took longer than {self._timeout_seconds:g} s", retry_after_seconds=2
            ) from None
        except (UnknownStore, StoreExpired, FilterInvalid, EmbedderMismatch):
            raise
        except IndexerError as problem:
            raise RetrievalUnavailable(
                "a store cannot be searched now; `fewshot verify` says why", retry_after_seconds=10
            ) from problem

    async def alive(self) -> bool:
        """Whether the catalogue can be read; checked on a search thread."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, self._searcher.check)
        except IndexerError:
            return False
        return True

    def warm(self) -> None:
        """Load the embedding model in the background, so that the first question need not wait for it."""
        self._pool.submit(self._searcher.warm)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._searcher.close()


def _hits(hits: Hits) -> Hits:
    return hits


def as_sources(hits: Sequence[Hit]) -> tuple[Source, ...]:
    """Hits as the prompts room knows them, numbered by rank."""
    return tuple(
        Source(
            number=rank,
            chunk_id=hit.chunk_id,
            title=_title(hit),
            text=f"{hit.lead.rstrip()}\n{hit.text}" if hit.lead else hit.text,
            score=hit.score,
        )
        for rank, hit in enumerate(hits, 1)
    )


def as_uses(hits: Hits, used: Sequence[Source]) -> tuple[SourceUse, ...]:
    """Every hit, with its number in the prompt; 0 for those that did not fit."""
    numbers = {source.chunk_id: source.number for source in used}
    return tuple(
        SourceUse(
            n=numbers.get(hit.chunk_id, 0),
            file_id=hit.file_id,
            filename=hit.filename,
            store_id=hit.store_id,
            chunk_id=hit.chunk_id,
            title=_title(hit),
            text=hit.text,
            score=hit.score,
            page_start=hit.page_start,
            page_end=hit.page_end,
            char_start=hit.char_start,
            char_end=hit.char_end,
            external_id=hit.external_id,
            attributes=hit.attributes,
            generation=hits.generations.get(hit.store_id, 0),
        )
        for hit in hits.hits
    )


def _title(hit: Hit) -> str:
    name = hit.title or hit.filename
    return f"{name}, p. {hit.page_start}" if hit.page_start else name
