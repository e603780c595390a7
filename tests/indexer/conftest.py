"""Real small objects for the indexer's tests: an embedder without a model, a store in a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indexer.catalogue import Catalogue
from indexer.hash_embedder import HashEmbedder
from indexer.ingest import Summary, ingest
from indexer.reading.reader import read
from indexer.records import Reading
from indexer.seams import Embedder
from indexer.search import Searcher
from indexer.splitting import Splitting


class Watching:
    """A `Watch` that remembers."""

    def __init__(self) -> None:
        self.files = 0
        self.chunks = 0
        self.names: list[str] = []
        self.batches: list[tuple[int, int, int]] = []

    def found(self, files: int) -> None:
        self.files = files

    def embedded(self, chunks: int) -> None:
        self.chunks += chunks

    def finished(self, name: str) -> None:
        self.names.append(name)

    def published(self, generation: int, documents: int, chunks: int, seconds: float) -> None:
        self.batches.append((generation, documents, chunks))


class CountingEmbedder(HashEmbedder):
    """Counts what it embeds."""

    def __init__(self, dimension: int = 64, max_tokens: int = 64) -> None:
        super().__init__(dimension, max_tokens)
        self.embedded = 0

    def passages(self, texts):
        self.embedded += len(texts)
        return super().passages(texts)


Put = Callable[..., Summary]


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def catalogue(data: Path) -> Iterator[Catalogue]:
    opened = Catalogue(data)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test puts its documents."""
    made = tmp_path / "documents"
    made.mkdir()
    return made


@pytest.fixture
def put(catalogue: Catalogue, folder: Path, embedder: CountingEmbedder) -> Put:
    """Ingest the folder; readers run in this process, the sandbox has tests of its own."""

    def reading(data: bytes, name: str, first_line: int = 1) -> Reading:
        return read(data, name, first_line)

    def run(
        *paths: Path, store: str = "docs", watch: Watching | None = None, by: Embedder | None = None, **more
    ) -> Summary:
        chosen = paths or (folder,)
        return ingest(
            catalogue, store, chosen, by or embedder, reading, Splitting(), watch or Watching(), **more
        )

    return run


@pytest.fixture
def searcher(data: Path, embedder: CountingEmbedder) -> Iterator[Searcher]:
    opened = Searcher(data, embedder)
    yield opened
    opened.close()
