"""How an ingest is shown: a bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


class Rates:
    """Counts since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.documents = 0
        self.chunks = 0

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-3)
        return f"{self.documents / seconds:.1f} documents/s, {self.chunks / seconds:.1f} chunks/s"


class Lines:
    """A `Watch` that writes a line per published batch, flushed: what it names is durable."""

    def __init__(self) -> None:
        self._rates = Rates()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def found(self, files: int) -> None:
        click.echo(f"{files} files")

    def embedded(self, chunks: int) -> None:
        self._rates.chunks += chunks

    def finished(self, name: str) -> None:
        return None

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        self._rates.documents += documents
        click.echo(
            f"generation {generation}: {documents} documents, {chunks} chunks published ({self._rates})"
        )


class Bar:
    """A `Watch` for people: files done of files found, and rates."""

    def __init__(self) -> None:
        self._rates = Rates()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files · {task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("reading", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def found(self, files: int) -> None:
        self._progress.update(self._task, total=files)

    def embedded(self, chunks: int) -> None:
        self._rates.chunks += chunks
        self._progress.update(self._task, description=str(self._rates))

    def finished(self, name: str) -> None:
        self._progress.advance(self._task)

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        self._rates.documents += documents
        self._progress.update(self._task, description=str(self._rates))
