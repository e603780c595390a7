"""Documents to chunks that fit the embedder: the only file that imports langchain_text_splitters."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from langchain_text_splitters import RecursiveCharacterTextSplitter

from indexer.records import Chunk, Document
from indexer.seams import Embedder

PLAIN = ["\n\n", "\n", "。", "！", "？", r"(?<=[.!?]) ", "；", "; ", "，", ", ", " ", ""]
MARKDOWN = [r"\n(?=#{1,6} )", r"\n(?=```)", r"\n\n(?=[-*+] )", *PLAIN]
MARKED = frozenset({"markdown", "html", "docx"})
TITLE_SHARE = 4  # a title takes at most a quarter of the window
_REMEMBERED = 200_000  # words whose token count is kept


class Splitting:
    """A `Splitter`: recursive by paragraph, sentence, word, counted in the embedder's tokens."""

    def __init__(self, max_tokens: int | None = None) -> None:
        """`max_tokens` bounds a chunk further than the embedder's window does."""
        self._max_tokens = max_tokens
        self._counts: dict[str, int] = {}

    def __call__(self, document: Document, embedder: Embedder) -> tuple[Chunk, ...]:
        """Chunks in reading order; with the shortened title in front, each fits the window."""
        limit = embedder.max_tokens - embedder.count([heading(document.title, embedder)])[0]
        limit = max(8, min(limit, self._max_tokens or limit))
        text = document.text
        spans: list[tuple[int, int]] = []
        for start, end in _parts(document):
            spans.extend(self._spans(text, start, end, limit, document.kind in MARKED, embedder))
        ends = list(accumulate(len(section.text) for section in document.sections))
        return tuple(_chunk(document, text, ends, start, end) for start, end in spans)

    def _spans(
        self, text: str, start: int, end: int, limit: int, marked: bool, embedder: Embedder
    ) -> list[tuple[int, int]]:
        part = text[start:end]
        if embedder.count([part])[0] <= limit:
            return [_stripped(text, start, end)] if part.strip() else []
        splitter = RecursiveCharacterTextSplitter(
            separators=MARKDOWN if marked else PLAIN,
            is_separator_regex=True,
            keep_separator=True,
            chunk_size=limit,
            chunk_overlap=0,
            length_function=self._length(embedder),
            strip_whitespace=True,
        )
        spans = []
        at = start
        for piece in splitter.split_text(part):
            if not piece:
                continue
            # Without overlap a piece begins after the one before: the first match is the right one.
            at = text.index(piece, at)
            spans.append((at, at + len(piece)))
            at += len(piece)
        return _fitting(text, spans, limit, embedder)

    def _length(self, embedder: Embedder) -> Callable[[str], int]:
        """Tokens of a piece as the sum over its words: each new word is tokenised once."""
        counts = self._counts

        def length(piece: str) -> int:
            words = piece.split()
            new = [word for word in set(words) if word not in counts]
            if new:
                if len(counts) > _REMEMBERED:
                    counts.clear()
                    new = list(set(words))
                counts.update(zip(new, embedder.count(new), strict=True))
            return sum(counts[word] for word in words)

        return length


def heading(title: str, embedder: Embedder) -> str:
    """The title as it is put before a chunk for embedding: a line, at most a quarter of the window."""
    room = embedder.max_tokens // TITLE_SHARE
    line = " ".join(title.split())
    while line and embedder.count([line])[0] > room:
        line = line[: len(line) * 3 // 4].rpartition(" ")[0] or line[: len(line) // 2]
    return line and line + "\n"


def _parts(document: Document) -> list[tuple[int, int]]:
    """Runs that may share a chunk: pages of a document flow into each other, so all of it."""
    length = sum(len(section.text) for section in document.sections)
    return [(0, length)] if length else []


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _fitting(
    text: str, spans: Sequence[tuple[int, int]], limit: int, embedder: Embedder
) -> list[tuple[int, int]]:
    """Halve what is still too long: a word sum can be short of the true count, and `""` cannot split."""
    counts = embedder.count([text[start:end] for start, end in spans])
    fitting: list[tuple[int, int]] = []
    for (start, end), count in zip(spans, counts, strict=True):
        if count <= limit or end - start < 2:
            fitting.append((start, end))
        else:
            middle = (start + end) // 2
            halves = [_stripped(text, start, middle), _stripped(text, middle, end)]
            fitting.extend(_fitting(text, [half for half in halves if half[0] < half[1]], limit, embedder))
    return fitting


def _chunk(document: Document, text: str, ends: list[int], start: int, end: int) -> Chunk:
    first = document.sections[bisect_right(ends, start)].page
    last = document.sections[bisect_right(ends, end - 1)].page
    return Chunk(text[start:end], start, end, first, last)
