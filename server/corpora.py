"""Files and stores as the routes use them: the catalogue off the event loop, and the backlog behind it."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from indexer import ownership
from indexer.attachments import Wish, attach
from indexer.backlog import Backlog
from indexer.catalogue import Catalogue
from indexer.database import is_full, writing
from indexer.embedders import Embedders
from indexer.errors import EmbedderMissing
from indexer.ownership import StoreStatus
from indexer.records import Store
from indexer.seams import Embedder
from server.errors import FULL, InsufficientStorage, InvalidValue

T = TypeVar("T")
P = ParamSpec("P")
UPLOAD_BYTES = 100 * 2**20


class Corpora:
    """One data folder's files and stores. Closing it ends the backlog and the catalogue."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedders: Embedders,
        embedder: Embedder,
        backlog: Backlog,
        *,
        upload_bytes: int = UPLOAD_BYTES,
        threads: int = 4,
    ) -> None:
        """`embedder` is that of new stores whose maker names none."""
        self.upload_bytes = upload_bytes
        self._catalogue, self._embedders, self._embedder = catalogue, embedders, embedder
        self._backlog = backlog
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="catalogue")
        backlog.start()

    async def run(
        self, work: Callable[Concatenate[Catalogue, P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """The result of `work(catalogue, …)`, on a thread. Raises InsufficientStorage on a full disk."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, partial(work, self._catalogue, *args, **options))
        except Exception as problem:
            if is_full(problem):
                raise InsufficientStorage(FULL) from problem
            raise

    def wake(self) -> None:
        """Something was attached: it is read now."""
        self._backlog.wake()

    def window(self, store: Store) -> int:
        """Tokens that the store's embedder takes at once. Raises EmbedderMissing."""
        return self._embedders.of(store.embedder, store.embedder_digest, store.name).max_tokens

    def create_store(
        self,
        catalogue: Catalogue,
        tenant: str,
        wishes: Sequence[Wish],
        model: str | None,
        values: dict[str, Any],
        store_id: str | None = None,
    ) -> StoreStatus:
        """A new store with these files waiting: all of it or nothing.

        Raises InvalidValue for a model that is not here, UnknownUpload, BacklogFull.
        """
        embedder = self._embedder
        if model is not None:
            try:
                embedder = self._embedders.named(model)
            except EmbedderMissing as problem:
                raise InvalidValue(str(problem), param="fewshot.embedding_model") from None
        with writing(catalogue.engine) as connection:
            store_id = ownership.create(connection, embedder, tenant=tenant, store_id=store_id, **values)
            store = ownership.owned(connection, tenant, store_id)
            attach(connection, store, tenant, wishes, window=embedder.max_tokens)
        return ownership.find(catalogue, tenant, store_id)

    def close(self) -> None:
        """End after what is at hand; the rest waits in the catalogue."""
        self._backlog.close()
        self._pool.shutdown()
        self._catalogue.close()
