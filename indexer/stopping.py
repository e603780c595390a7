"""A run that is asked to end: by a signal, or by another process."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from indexer.catalogue import Catalogue
from indexer.errors import StoreBusy
from indexer.locks import REQUEST, WRITER, held
from indexer.records import Store
from indexer.segments import stores_folder

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def never() -> bool:
    """A run that nobody stops."""
    return False


class Stop:
    """Says whether to end. Within its block a first SIGINT or SIGTERM asks for it, a second one insists."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        """`tell` is called at the first signal."""
        self.event = threading.Event()
        self._tell = tell
        self._before: dict[signal.Signals, object] = {}

    def __call__(self) -> bool:
        return self.event.is_set()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.event.set()
        self._tell()


class Requested:
    """Says whether another process asked the run in this store to end."""

    def __init__(self, catalogue: Catalogue, store: Store) -> None:
        self._path = stores_folder(catalogue.data, store.id) / REQUEST

    def __call__(self) -> bool:
        return self._path.exists()


def request(catalogue: Catalogue, store: Store) -> bool:
    """Ask the ingest at work in the store to end. False when there is none on this machine."""
    folder = stores_folder(catalogue.data, store.id)
    try:
        with held(folder / WRITER, ""):
            return False
    except StoreBusy:
        (folder / REQUEST).touch()
        return True
