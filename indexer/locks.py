"""Who may write to a store: one process, as long as it lives."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.errors import StoreBusy

WRITER = ".writer"  # in a store's folder: the lock of who publishes
REQUEST = ".cancel"  # beside it: whoever publishes is asked to end


@contextmanager
def held(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock file; raises `StoreBusy` with that message when another process does.

    The lock ends with its process, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusy(otherwise) from error
        yield
    finally:
        os.close(handle)
