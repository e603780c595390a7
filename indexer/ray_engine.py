"""Ingest on a Ray cluster: the only file that imports ray.

Reading and embedding go to workers, which stand behind the same two seams as the local ones; the driver
splits, keeps the order and publishes. So a store that Ray filled is what a local run would have made it.
"""

import logging
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from indexer import errors
from indexer.embedding import open_embedder
from indexer.records import Reading
from indexer.sandbox import Sandbox
from indexer.seams import Embedder, Vectors

_RETRIES = 2  # of a task, when its worker died
_AT_ONCE = 2  # a worker reads while it embeds


class Worker:
    """One process of the cluster: a sandbox and the embedding model."""

    def __init__(self, embedder: str, models: str) -> None:
        self._sandbox = Sandbox()
        self._embedder = open_embedder(embedder, Path(models))

    def digest(self) -> str:
        """Of the model that this machine has under the name."""
        return self._embedder.digest

    def read(self, data: bytes, name: str, first_line: int) -> Reading | tuple[str, str]:
        """What is in the data, or class and message of the refusal: an exception would come back wrapped."""
        try:
            return self._sandbox(data, name, first_line)
        except errors.Unreadable as error:
            return type(error).__name__, str(error)

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows."""
        return self._embedder.passages(texts)


class Crew:
    """The workers of a run: a `Reader`, and an embedder that spreads over them. For several threads."""

    def __init__(self, workers: Sequence[Any], embedder: Embedder) -> None:
        self._workers = workers
        self._readers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for worker in workers:
            self._readers.put(worker)
        self.embedder: Embedder = _Spread(workers, embedder)

    @property
    def readers(self) -> int:
        """Documents that may be read at once."""
        return len(self._workers)

    def __call__(self, data: bytes, name: str, first_line: int = 1) -> Reading:
        """All documents in `data`; raises a subclass of `Unreadable`, or `EngineMissing`."""
        worker = self._readers.get()
        try:
            answer: Reading | tuple[str, str] = _result(worker.read.remote(data, name, first_line))
        finally:
            self._readers.put(worker)
        if isinstance(answer, Reading):
            return answer
        raise getattr(errors, answer[0])(answer[1])


class _Spread:
    """The embedder, whose passages are embedded by the workers."""

    def __init__(self, workers: Sequence[Any], embedder: Embedder) -> None:
        self._workers = workers
        self.name, self.digest = embedder.name, embedder.digest
        self.dimension, self.max_tokens = embedder.dimension, embedder.max_tokens
        self.count, self.grasp, self.query = embedder.count, embedder.grasp, embedder.query

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, shape (n, dimension); each worker has every nth text, so that long ones are shared."""
        rows = np.empty((len(texts), self.dimension), dtype=np.float32)
        many = len(self._workers)
        shares = [(worker, texts[at::many]) for at, worker in enumerate(self._workers)]
        pending = [worker.passages.remote(list(share)) if share else None for worker, share in shares]
        for at, reference in enumerate(pending):
            if reference is not None:
                rows[at::many] = _result(reference)
        return rows


@contextmanager
def crew(embedder: str, models: Path, workers: int | None = None) -> Iterator[Crew]:
    """Workers on the cluster of RAY_ADDRESS, or on this machine where it is not set; one per CPU if not said.

    `models` is the same path on every machine. Raises `EngineMissing`, `EmbedderMissing`, `EmbedderMismatch`.
    """
    try:
        import ray
    except ImportError as error:
        raise errors.EngineMissing("--engine ray needs Ray: pip install 'fewshot[ray]'") from error
    here = open_embedder(embedder, models)
    began = not ray.is_initialized()
    if began:
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise errors.EngineMissing(f"no Ray cluster can be reached: {error}; see RAY_ADDRESS") from error
    hired: list[Any] = []  # handles of `Worker`
    try:
        resources: Any = ray.cluster_resources  # it has no types
        many = workers or max(1, int(resources().get("CPU", 1)))
        hire: Any = ray.remote(Worker).options(
            num_cpus=1,
            max_concurrency=_AT_ONCE,
            max_restarts=_RETRIES,
            max_task_retries=_RETRIES,
            scheduling_strategy="SPREAD",
        )
        hired += [hire.remote(embedder, str(models)) for _ in range(many)]
        for worker in hired:
            digest = _result(worker.digest.remote())
            if digest != here.digest:
                raise errors.EmbedderMismatch(
                    f"a Ray worker's {embedder} is {digest[:12]}, here it is {here.digest[:12]}: "
                    f"put the same folder under {models} on every machine"
                )
        yield Crew(hired, here)
    finally:
        for worker in hired:
            ray.kill(worker)
        if began:
            ray.shutdown()


def _result(reference: Any) -> Any:
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # raised by our own code over there
        cause = error.cause
        raise cause if isinstance(cause, errors.IndexerError) else error from error
    except ray.exceptions.RayError as error:
        raise errors.EngineMissing(f"a Ray worker was lost ({type(error).__name__}): ingest again") from error
