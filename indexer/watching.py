"""Runs again when files change, until it is told to end."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchfiles import watch

from indexer.errors import IndexerError

QUIET_MS = 400  # changes nearer to each other are one, for at most four times as long
AGAIN_SECONDS = 5.0  # after a run that failed
_LOOK_SECONDS = 0.2

Run = Callable[[frozenset[Path] | None], None]
Changes = frozenset[Path] | Exception


def follow(
    paths: Sequence[Path],
    run: Run,
    stop: threading.Event,
    complain: Callable[[Exception], None],
    quiet_ms: int = QUIET_MS,
) -> None:
    """Call `run` with None, for everything, then with the paths that changed, until `stop` is set.

    Watching begins before the first run, so nothing that happens meanwhile is missed. A run that raises an
    `IndexerError`, and a watch that fails, are told to `complain` and tried again.
    """
    found: queue.SimpleQueue[Changes] = queue.SimpleQueue()
    watching = _watch(paths, found, stop, quiet_ms)
    everything, changed, due = True, set[Path](), 0.0
    while not stop.is_set():
        try:
            change = found.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            change = frozenset()
        if isinstance(change, Exception):
            complain(change)
            stop.wait(AGAIN_SECONDS)
            everything = True  # what was missed meanwhile is not known
            watching = _watch(paths, found, stop, quiet_ms)
        else:
            changed |= change
        if (everything or changed) and time.monotonic() >= due:
            try:
                run(None if everything else frozenset(changed))
            except IndexerError as error:
                complain(error)
                due = time.monotonic() + AGAIN_SECONDS
            else:
                everything, changed = False, set()
    watching.join()


def _watch(
    paths: Sequence[Path], found: "queue.SimpleQueue[Changes]", stop: threading.Event, quiet_ms: int
) -> threading.Thread:
    def work() -> None:
        try:
            for some in watch(
                *paths,
                stop_event=stop,
                debounce=4 * quiet_ms,
                step=quiet_ms,
                rust_timeout=500,
                watch_filter=None,
            ):
                found.put(frozenset(Path(path) for _, path in some))
        except (OSError, RuntimeError) as error:  # a path is gone, or the watch itself broke
            found.put(error)

    thread = threading.Thread(target=work, name="watch", daemon=True)
    thread.start()
    return thread
