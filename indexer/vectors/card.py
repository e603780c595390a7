"""Indexes on an accelerator card: one thread owns them, and answers together what waits together."""

import itertools
import logging
import math
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from indexer.seams import Vectors
from indexer.vectors.calibration import calibrate, questions
from indexer.vectors.choice import Choice, Wanted, choose
from indexer.vectors.scan import Best, Rows, scan
from indexer.vectors.selection import Chosen, count
from indexer.vectors.stored import StoredVectors

TOGETHER = 256  # questions answered in one call; one caller's larger batch stays whole
MOST = 2048  # answers to a question that a card can select
LEAST = 20_000  # rows: fewer are scanned by the processor before the card is asked
_SPARE = 1.2  # more answers than a filter is expected to need

log = logging.getLogger("fewshot")


class Engine(Protocol):
    """What is done on the card. Only ever called from the thread that made it."""

    @property
    def memory_bytes(self) -> int:
        """Free on the card now, the cap for intermediate results taken off."""
        ...

    def place(self, rows: Rows, choice: Choice) -> Any:
        """An index of the rows."""
        ...

    def search(self, index: Any, queries: Vectors, top: int, effort: int) -> Best: ...


class _Answer:
    """Waited for on a bare lock: a Future costs as much as a small search."""

    __slots__ = ("_ready", "best", "error")

    def __init__(self) -> None:
        self._ready = threading.Lock()
        self._ready.acquire()
        self.best: Best | None = None
        self.error: Exception | None = None

    def tell(self, best: Best | None, error: Exception | None = None) -> None:
        self.best, self.error = best, error
        self._ready.release()

    def wait(self) -> Best:
        self._ready.acquire()
        if self.best is None:
            raise self.error or RuntimeError("the card gave no answer")
        return self.best


class _Question(NamedTuple):
    key: int
    queries: Vectors
    top: int
    effort: int
    answer: _Answer


class _Order(NamedTuple):
    act: Callable[[Engine], Any]
    done: "Future[Any]"


class Card:
    """The only thread that touches the card. Safe to use from several threads."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Raises what `engine` raises: it is called on the thread that will own it."""
        self._waiting: queue.SimpleQueue[_Question | _Order | None] = queue.SimpleQueue()
        self._placed: dict[int, Any] = {}
        self._numbers = itertools.count()
        started: Future[None] = Future()
        threading.Thread(target=self._run, args=(engine, started), name="card", daemon=True).start()
        started.result()

    def place(self, vectors: StoredVectors, wanted: Wanted) -> StoredVectors:
        """The same vectors, searched on the card; let go of there when no longer used here.

        Raises `IndexOptionRefused` when they do not fit.
        """
        if len(vectors.ids) < LEAST or vectors.about["kind"] == "milvus":
            return vectors
        rows, key = vectors.stored, next(self._numbers)

        def put(engine: Engine) -> Choice:
            chosen = choose(len(rows), rows.shape[1], wanted, engine.memory_bytes, "cuda")
            self._placed[key] = engine.place(rows, chosen)
            return chosen

        choice = self._order(put)
        index = OnCard(self, key, choice.kind)
        weakref.finalize(index, self._waiting.put, _Order(lambda _: self._placed.pop(key, None), Future()))
        found = 1.0 if choice.kind == "flat" else calibrate(index, rows, wanted.recall, questions(rows))
        about = {**choice._asdict(), "recall": found}
        log.info("%d rows on the card: %s, %s, recall@10 %.3f", len(rows), choice.kind, choice.why, found)
        return replace(vectors, about=about, shortcut=index)

    def ask(self, key: int, queries: Vectors, top: int, effort: int) -> Best:
        """Answers of one index, waiting for the card."""
        answer = _Answer()
        self._waiting.put(_Question(key, queries, top, effort, answer))
        return answer.wait()

    def close(self) -> None:
        """Let go of the card once what waits is answered."""
        self._waiting.put(None)

    def _order(self, act: Callable[[Engine], Any]) -> Any:
        done: Future[Any] = Future()
        self._waiting.put(_Order(act, done))
        return done.result()

    def _run(self, make: Callable[[], Engine], started: "Future[None]") -> None:
        try:
            engine = make()
        except Exception as error:  # for whoever waits for the card to be ready
            started.set_exception(error)
            return
        started.set_result(None)
        kept: _Question | _Order | None = None
        while True:
            first = kept if kept is not None else self._waiting.get()
            kept = None
            if first is None:
                self._placed.clear()
                return
            if isinstance(first, _Order):
                _carry_out(first, engine)
                continue
            batch = [first]
            while kept is None and sum(len(question.queries) for question in batch) < TOGETHER:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break  # nobody waits: a card is not kept idle for company
                if isinstance(following, _Question) and following[0::3] == first[0::3]:
                    batch.append(following)
                else:
                    kept = following
                    if following is None:
                        self._waiting.put(None)
            self._answer(engine, batch)

    def _answer(self, engine: Engine, batch: Sequence[_Question]) -> None:
        top = max(question.top for question in batch)
        together = batch[0].queries
        if len(batch) > 1:
            together = np.concatenate([question.queries for question in batch])
        try:
            best = engine.search(self._placed[batch[0].key], together, top, batch[0].effort)
        except Exception as error:  # for those who asked, who wait on other threads
            for question in batch:
                question.answer.tell(None, error)
            return
        start = 0
        for question in batch:
            rows = slice(start, start + len(question.queries))
            question.answer.tell(
                Best(best.scores[rows, : question.top], best.positions[rows, : question.top])
            )
            start = rows.stop


@dataclass(eq=False)
class OnCard:
    """One segment's index on the card: a `Shortcut`."""

    card: Card
    key: int
    kind: str
    effort: int = 1

    @property
    def knob(self) -> str:
        """What `effort` counts."""
        return "probes" if self.kind == "ivf" else "candidates"

    def visits(self, rows: int, top: int, share: float) -> float:
        """None of the processor's time, unless the card cannot select as many answers as a filter needs."""
        return 0.0 if _needed(top, share) <= MOST else math.inf

    def search(self, rows: Rows, queries: Vectors, top: int, chosen: Chosen) -> Best:
        """The best `top` chosen rows: more than `top` are found on the card, and the others left out."""
        some = count(chosen, len(rows))
        if chosen is None:
            return self.card.ask(self.key, queries, top, self.effort)
        fetched = min(MOST, len(rows), _needed(top, some / len(rows)))
        while True:
            best = self.card.ask(self.key, queries, fetched, self.effort)
            seen = _seen(best.positions, chosen)
            if seen.sum(axis=1).min(initial=top) >= min(top, some):
                return _first(best, seen, top)
            if fetched >= min(MOST, len(rows)):
                return scan(rows, queries, top, chosen)
            fetched = min(2 * fetched, MOST, len(rows))


def _needed(top: int, share: float) -> int:
    return math.ceil(_SPARE * top / max(share, 1e-9)) + 16


def _seen(positions: Any, chosen: Any) -> Any:
    known = positions >= 0
    if chosen.dtype == np.bool_:
        return known & chosen[positions]
    return known & np.isin(positions, chosen)


def _first(best: Best, seen: Any, top: int) -> Best:
    """The first `top` seen of each row; they stay in order."""
    order = np.argsort(~seen, axis=1, kind="stable")[:, :top]
    kept = np.take_along_axis(seen, order, 1)
    positions = np.where(kept, np.take_along_axis(best.positions, order, 1), -1)
    return Best(np.take_along_axis(best.scores, order, 1), positions)


def _carry_out(order: _Order, engine: Engine) -> None:
    try:
        order.done.set_result(order.act(engine))
    except Exception as error:  # for whoever gave the order
        order.done.set_exception(error)
