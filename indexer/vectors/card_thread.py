"""The thread that owns a card: it answers together what waits together.

All segments of a question are asked for at once. Each time a thread waits it lets go of the interpreter,
and beside a busy one gets it back after a switch interval: ten times as long as the card takes.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from indexer.seams import Vectors
from indexer.vectors.choice import Choice
from indexer.vectors.joined import Joined
from indexer.vectors.scan import Best, Rows, Whole, counted_on

TOGETHER = 256  # questions answered in one call; one caller's larger batch stays whole


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

    def join(self, indexes: Sequence[Any], room_bytes: int) -> Whole | None:
        """One index of several, searched in one call without effort; positions count on from each to the
        next. It may copy so many bytes of them. None: they are asked one by one."""
        ...


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


class Asked(NamedTuple):
    """An index on the card and how hard it looks."""

    key: int
    effort: int


class _Question(NamedTuple):
    asked: tuple[Asked, ...]  # positions count on from each to the next
    queries: Vectors
    top: int
    answer: _Answer


class Placed(NamedTuple):
    """An index on the card."""

    index: Any
    rows: int


class _Order(NamedTuple):
    act: Callable[[Engine], Any]
    done: "Future[Any]"


class CardThread:
    """The only thread that touches the card. Safe to use from several threads."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """Raises what `engine` raises: it is called on the thread that will own it."""
        self.placed: dict[int, Placed] = {}  # only ever touched by orders
        self._waiting: queue.SimpleQueue[_Question | _Order | None] = queue.SimpleQueue()
        started: Future[None] = Future()
        threading.Thread(target=self._run, args=(engine, started), name="card", daemon=True).start()
        started.result()

    @property
    def waiting(self) -> int:
        """Questions and orders that nobody looks at yet."""
        return self._waiting.qsize()

    def ask(self, asked: Sequence[Asked], queries: Vectors, top: int) -> Best:
        """The best `top` of some indexes together; positions count on from each to the next."""
        answer = _Answer()
        self._waiting.put(_Question(tuple(asked), queries, top, answer))
        return answer.wait()

    def order(self, act: Callable[[Engine], Any]) -> Any:
        """What `act` returns, or raises, when it is called on the thread."""
        done: Future[Any] = Future()
        self._waiting.put(_Order(act, done))
        return done.result()

    def let_go(self, key: int) -> None:
        """Of an index, once what waits before this is answered; does not wait."""
        self._waiting.put(_Order(partial(self._let_go, key), Future()))

    def close(self) -> None:
        """Let go of the card once what waits is answered."""
        self._waiting.put(None)

    def _let_go(self, key: int, engine: Engine) -> None:
        self.placed.pop(key, None)
        self._joined.forget(lambda asked: asked.key == key)

    def _run(self, make: Callable[[], Engine], started: "Future[None]") -> None:
        try:
            engine = make()
        except Exception as error:  # for whoever waits for the card to be ready
            started.set_exception(error)
            return
        self._joined = Joined(engine)
        started.set_result(None)
        kept: _Question | _Order | None = None
        while True:
            first = kept if kept is not None else self._waiting.get()
            kept = None
            if first is None:
                self._joined.forget(lambda _: True)
                self.placed.clear()
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
                if isinstance(following, _Question) and following.asked == first.asked:
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
            best = self._search(engine, batch[0].asked, together, top)
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

    def _search(self, engine: Engine, asked: tuple[Asked, ...], queries: Vectors, top: int) -> Best:
        placed = [self.placed[one.key] for one in asked]
        if len(asked) > 1:
            whole = self._joined.whole(asked, [one.index for one in placed])
            if whole is not None:
                return engine.search(whole, queries, top, 0)
        found = [
            engine.search(there.index, queries, top, one.effort)
            for there, one in zip(placed, asked, strict=True)
        ]
        return counted_on(found, [there.rows for there in placed], top)


def _carry_out(order: _Order, engine: Engine) -> None:
    try:
        order.done.set_result(order.act(engine))
    except Exception as error:  # for whoever gave the order
        order.done.set_exception(error)
