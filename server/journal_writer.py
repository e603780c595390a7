"""Rows to the journal's database, from one thread, in groups: nobody waits for a disk on the event loop.

A row that somebody waits for is written at once; the others within `LATER_SECONDS`, so that the rows of a
burst share a transaction, and its Python does not compete with the burst's first tokens. Order is kept.
"""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Engine, Table, insert
from sqlalchemy.exc import OperationalError

from indexer.database import Appender, is_full

log = logging.getLogger("fewshot.journal")

Done = Callable[[Exception | None], object]  # called from the writer's thread
Row = tuple[Table | None, Mapping[str, Any], Done | None]
GROUP = 512  # rows a transaction
LATER_SECONDS = 0.02
ATTEMPTS = 6  # of a transaction that others hold up, each as long as the database waits for a lock


class Writer:
    """Owns a thread until `close`; the engine is its caller's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._appender = Appender(engine)
        self._rows: deque[Row | None] = deque()  # None: stop
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._later: asyncio.TimerHandle | None = None
        self._statements: dict[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...] | None]] = {}
        self.dropped = 0  # rows that could not be written
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def now(self, table: Table | None, row: Mapping[str, Any], done: Done) -> None:
        """`done` is called when everything so far is on disk, this row too, or with why it is not."""
        self._rows.append((table, row, done))
        self._woken.put(None)

    def soon(self, table: Table, row: Mapping[str, Any]) -> None:
        """From an event loop, or from anywhere."""
        self._rows.append((table, row, None))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._woken.put(None)
            return
        # One that is late by a second belongs to a loop that has ended.
        if self._later is None or self._later.when() + 1 < loop.time():
            self._later = loop.call_later(LATER_SECONDS, self._wake)

    def _wake(self) -> None:
        self._later = None
        self._woken.put(None)

    def wait(self) -> None:
        """Block until everything so far is written."""
        written = threading.Event()
        self.now(None, {}, lambda _: written.set())
        written.wait()

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._rows.append(None)
        self._woken.put(None)
        self._thread.join()

    def _write(self) -> None:
        stopping = False
        while not stopping:
            self._woken.get()
            while self._rows:
                group = [self._rows.popleft() for _ in range(min(len(self._rows), GROUP))]
                stopping = stopping or None in group
                rows = [row for row in group if row is not None]
                for row, problem in zip(rows, self._committed(rows), strict=True):
                    if row[2] is not None:
                        row[2](problem)
        self._appender.close()

    def _committed(self, rows: Sequence[Row]) -> list[Exception | None]:
        """Commit the rows together; where that fails, each by itself, so that one spoils no other."""
        told = [(table, values) for table, values, _ in rows if table is not None]
        if not told:
            return [None] * len(rows)
        for attempt in range(ATTEMPTS):
            try:
                said: list[tuple[str, Sequence[Any]]] = []
                for (table, names), same in groupby(told, lambda row: (row[0], tuple(row[1]))):
                    statement, order = self._statement(table, names)
                    values = [row for _, row in same]
                    said.append(
                        (
                            statement,
                            [tuple(map(row.__getitem__, order)) for row in values] if order else values,
                        )
                    )
                self._appender.commit(said)
                return [None] * len(rows)
            except Exception as caught:  # whatever it is, waiters must hear of it and the thread must live
                problem = caught
                busy = isinstance(caught, OperationalError) and "locked" in str(caught.orig)
                if not busy or attempt == ATTEMPTS - 1:
                    break
                log.warning("journal: others keep it busy; trying again")
        if len(rows) > 1 and not busy:
            return [self._committed([row])[0] for row in rows]
        self.dropped += len(rows)
        log.error("journal: %d rows not written: %s", len(rows), type(problem).__name__)
        # A full disk is no reason not to answer: docs/decisions/0158-server-full-disk.md
        return [None if is_full(problem) else problem] * len(rows)

    def _statement(self, table: Table, names: tuple[str, ...]) -> tuple[str, tuple[str, ...] | None]:
        """The insertion of these columns as the driver takes it, and their order; None: by their names.

        Made once: making it anew, SQLAlchemy spends more on a row than the database does.
        """
        known = self._statements.get((table.name, names))
        if known is None:
            made: Any = insert(table).compile(dialect=self._engine.dialect, column_keys=list(names))
            order = tuple(made.positiontup) if made.positiontup else None
            known = self._statements[table.name, names] = str(made), order
        return known
