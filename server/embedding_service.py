"""The indexer's embedder for callers: on threads of its own, never truncating."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from indexer.seams import Embedder


class EmbeddingService:
    """Serves one embedder. The event loop never tokenises or multiplies."""

    def __init__(self, embedder: Embedder, *, threads: int = 2) -> None:
        self._embedder = embedder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed")

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    async def count(self, texts: Sequence[str]) -> list[int]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._embedder.count, texts)

    async def embed(self, texts: Sequence[str], *, as_query: bool) -> NDArray[np.float32]:
        def work() -> NDArray[np.float32]:
            if as_query:
                return np.stack([self._embedder.query(text) for text in texts])
            return self._embedder.passages(texts)

        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
