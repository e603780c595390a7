"""Plain values that pass between the parts of the indexer; no behaviour beyond derivation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Attribute = str | float | bool


@dataclass(frozen=True, slots=True)
class Section:
    """A run of a document's text. Sections joined without separator are the extracted text."""

    text: str
    page: int | None = None  # 1-based; None where the format has no pages
    headings: tuple[str, ...] = ()  # what it stands under, outermost first
    lead: str = ""  # repeated before every later chunk of the section: a table's header rows


@dataclass(frozen=True, slots=True)
class Document:
    """What a reader makes of bytes: one file, or one row of a JSONL file."""

    title: str
    sections: tuple[Section, ...]
    kind: str  # text | markdown | html | pdf | docx | csv | jsonl
    external_id: str | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The extracted text: what every character offset counts in."""
        return "".join(section.text for section in self.sections)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that came out of one file: documents, and what was wrong with the rest."""

    documents: tuple[Document, ...]
    errors: tuple[str, ...] = ()  # parts that could not be read
    warnings: tuple[str, ...] = ()  # read, but look at it


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `document.text[char_start:char_end] == text`."""

    text: str
    char_start: int  # code points, half-open
    char_end: int
    page_start: int | None  # 1-based, inclusive
    page_end: int | None
    headings: tuple[str, ...] = ()  # of its first section that is more than headings
    lead: str = ""  # read before the text, not part of it: the header of the table that was cut
    parent: tuple[int, int] | None = None  # span of the passage to read when this chunk matches


@dataclass(frozen=True, slots=True)
class Ranked:
    """One leg's answer, best first: parallel ids and scores."""

    ids: tuple[int, ...]
    scores: tuple[float, ...]


class Hit(NamedTuple):
    """A chunk that answers a query."""

    chunk_id: str  # ch_…
    file_id: str  # file-…
    external_id: str | None  # the id of a JSONL row
    store_id: str  # vs_…
    filename: str
    title: str
    text: str
    score: float  # calibrated, 0..1, six decimals
    page_start: int | None
    page_end: int | None
    char_start: int
    char_end: int
    attributes: Mapping[str, Attribute]
    headings: tuple[str, ...] = ()
    lead: str = ""  # to be read before the text, not part of the span


@dataclass(frozen=True, slots=True)
class Hits:
    """Hits by strictly decreasing score, and the generation of each store they came from."""

    hits: tuple[Hit, ...]
    generations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a published file must be, or it is not read."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One immutable folder of a store: vectors, ids and keyword index of some chunks."""

    id: str  # the folder's name
    store_id: str
    chunks: int
    files: Mapping[str, FileDigest]  # relative path -> digest
    first_chunk: int | None = None  # the range of its ids, where it was written down
    last_chunk: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """What a search of a store sees: the segments of one series less the dead chunks."""

    store_id: str
    number: int
    segments: tuple[Segment, ...]
    dead: frozenset[int]  # chunk row ids inside the segments that must not be found
    series: str  # the vectors of one embedder, never of two
    embedder: str
    embedder_digest: str
    dimension: int
    described: int = 0  # the generation in which attributes of files were last changed
    since: int | None = None  # `dead` are those of later generations; None: all of them


@dataclass(frozen=True, slots=True)
class Series:
    """One embedder's vectors of a store: what segments belong to."""

    id: str
    store_id: str
    embedder: str
    embedder_digest: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Store:
    """A named corpus and the embedder its current vectors are of."""

    id: str  # vs_…
    name: str
    embedder: str
    embedder_digest: str
    dimension: int
    generation: int
    created_at: int  # unix seconds
    series: str  # of the current vectors
    options: Mapping[str, object] = field(default_factory=dict)  # "index", "chunking"

    @property
    def current(self) -> Series:
        """The series that is searched."""
        return Series(self.series, self.id, self.embedder, self.embedder_digest, self.dimension)


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much a store holds, live only."""

    files: int
    failed: int
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one file, for the list at the end of an ingest."""

    name: str
    message: str
