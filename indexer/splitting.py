"""Documents to chunks that fit the embedder: the only file that imports langchain_text_splitters."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

from indexer.chunking import Chunking
from indexer.passages import SHARE, context, shortened
from indexer.records import Chunk, Document
from indexer.seams import Embedder
from indexer.structure import Run, arranged, heading_only, runs

PLAIN = ["\n\n", "\n", "。", "！", "？", r"(?<=[.!?]) ", "；", "; ", "，", ", ", " ", ""]
MARKDOWN = [r"\n(?=#{1,6} )", r"\n(?=```)", r"\n\n(?=[-*+] )", *PLAIN]
MARKED = frozenset({"markdown", "html", "docx", "odt", "odp", "pptx", "epub", "xml", "mail"})
CODE = frozenset(language.value for language in Language) - {"markdown", "html"}
LEAST_TOKENS = 8  # of a chunk, whatever stands before it
_ATOMS = 16  # static chunks are put together from pieces of a sixteenth of their size
_REMEMBERED = 200_000  # words whose token count is kept

Span = tuple[int, int]


class Splitting:
    """A `Splitter` that cuts as its `chunking` says."""

    def __init__(self, chunking: Chunking | None = None) -> None:
        self.chunking = chunking or Chunking()
        self._counts: dict[str, int] = {}

    def __call__(self, document: Document, embedder: Embedder) -> tuple[Chunk, ...]:
        """Chunks in reading order.

        Each fits the window with what stands before it; static ones keep to their own size instead.
        """
        desk = _Desk(document, embedder, self._length(embedder))
        chunking = self.chunking
        if chunking.strategy == "static":
            return tuple(desk.overlapping(chunking.max_tokens or 0, chunking.overlap_tokens))
        if chunking.strategy == "parent":
            return tuple(desk.nested(chunking.max_tokens or 0, chunking.parent_tokens or 0))
        return tuple(desk.structured(0, desk.end, chunking.max_tokens))

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


class _Desk:
    """One document being cut."""

    def __init__(self, document: Document, embedder: Embedder, length: Callable[[str], int]) -> None:
        self._document, self._embedder, self._length = document, embedder, length
        self._text = document.text
        self._ends = list(accumulate(len(section.text) for section in document.sections))
        self._heads: dict[tuple[str, ...], int] = {}  # tokens of what stands before a chunk
        self._leads: dict[str, str] = {}
        self.end = len(self._text)

    def structured(self, start: int, end: int, most: int | None) -> list[Chunk]:
        """Cut at headings and around tables; small neighbours share a chunk."""
        count = self._embedder.count
        chunks: list[Chunk] = []
        for run in arranged(
            runs(self._document, start, end), self._text, count, lambda run: self._room(run, most)
        ):
            room = self._room(run, most)
            lead = self._lead(run.lead)
            less = room - count([lead])[0] if lead else room
            if run.tokens <= (less if run.begun else room):
                spans = [_stripped(self._text, run.start, run.end)]
            else:
                spans = self._spans(run.start, run.end, max(LEAST_TOKENS, less), bool(run.lead))
            for at, span in enumerate(spans):
                has_header = not at and not run.begun  # in its own text
                chunks.append(self._chunk(*span, run.headings, "" if has_header else lead))
        return chunks

    def nested(self, child: int, parent: int) -> list[Chunk]:
        """Passages to read, cut by structure, and in each the chunks that are matched."""
        return [
            replace(chunk, parent=span)
            for span in self._passages(parent)
            for chunk in self.structured(*span, child)
        ]

    def overlapping(self, most: int, overlap: int) -> list[Chunk]:
        """`most` tokens at a time without regard to structure, ends at sentences or words."""
        atoms = self._spans(0, self.end, max(LEAST_TOKENS, most // _ATOMS), False)
        counts = self._embedder.count([self._text[start:end] for start, end in atoms])
        chunks: list[Chunk] = []
        first = 0
        while first < len(atoms):
            last, total = first, 0
            while last < len(atoms) and (last == first or total + counts[last] <= most):
                total += counts[last]
                last += 1
            while last - first > 1 and self._count(atoms[first][0], atoms[last - 1][1]) > most:
                last -= 1  # tokens can be more where pieces meet
            chunks.append(self._plain(atoms[first][0], atoms[last - 1][1]))
            if last == len(atoms):
                break
            first = last
            repeated = 0
            begin = chunks[-1].char_start
            while atoms[first - 1][0] > begin and repeated + counts[first - 1] <= overlap:
                first -= 1
                repeated += counts[first]
        return chunks

    def _passages(self, most: int) -> list[Span]:
        """Passages by structure; they are not embedded, so the window does not bound them."""
        spans: list[Span] = []
        for run in arranged(
            runs(self._document, 0, self.end), self._text, self._embedder.count, lambda run: most
        ):
            if run.tokens <= most:
                spans.append(_stripped(self._text, run.start, run.end))
            else:
                spans += self._spans(run.start, run.end, most, bool(run.lead))
        return spans

    def _count(self, start: int, end: int) -> int:
        return self._embedder.count([self._text[start:end]])[0]

    def _room(self, run: Run, most: int | None) -> int:
        """Tokens for text under these headings."""
        if run.headings not in self._heads:
            head = context(self._document.title, run.headings, self._embedder)
            self._heads[run.headings] = self._embedder.count([head])[0]
        room = self._embedder.max_tokens - self._heads[run.headings]
        return max(LEAST_TOKENS, min(room, most or room))

    def _lead(self, lead: str) -> str:
        """A table's header in at most a quarter of the window."""
        if lead not in self._leads:
            short = shortened(lead.rstrip("\n"), self._embedder.max_tokens // SHARE, self._embedder)
            self._leads[lead] = short and short + "\n"
        return self._leads[lead]

    def _spans(self, start: int, end: int, limit: int, rows: bool) -> list[Span]:
        separators = PLAIN
        if rows:
            separators = PLAIN[1:]  # an empty line, such as that below a heading, is no reason to cut
        elif self._document.kind in CODE:
            language = Language(self._document.kind)
            separators = RecursiveCharacterTextSplitter.get_separators_for_language(language)
        elif self._document.kind in MARKED:
            separators = MARKDOWN
        spans = _cut(self._text, start, end, limit, separators, self._length, self._embedder)
        return self._accompanied(spans, limit) if separators is MARKDOWN else spans

    def _accompanied(self, spans: Sequence[Span], limit: int) -> list[Span]:
        """No heading alone before a paragraph that fills a chunk: it takes the first sentences along."""
        made: list[Span] = []
        for start, end in spans:
            if made and heading_only(self._text[slice(*made[-1])]):
                start = made.pop()[0]
                made += _cut(self._text, start, end, limit, PLAIN[2:], self._length, self._embedder)
            else:
                made.append((start, end))
        return made

    def _plain(self, start: int, end: int) -> Chunk:
        """A chunk that has its headings and table header from where it begins."""
        at = bisect_right(self._ends, start)
        section = self._document.sections[at]
        begins = self._ends[at] - len(section.text)
        inside = bool(section.lead) and start >= begins + len(section.lead)
        return self._chunk(start, end, section.headings, self._lead(section.lead) if inside else "")

    def _chunk(self, start: int, end: int, headings: tuple[str, ...], lead: str) -> Chunk:
        first = self._document.sections[bisect_right(self._ends, start)].page
        last = self._document.sections[bisect_right(self._ends, end - 1)].page
        return Chunk(self._text[start:end], start, end, first, last, headings, lead)


def windows(text: str, embedder: Embedder) -> list[str]:
    """The text in pieces that fit the window, nothing but blanks lost between them."""
    spans = _cut(
        text, 0, len(text), embedder.max_tokens, PLAIN, lambda piece: embedder.count([piece])[0], embedder
    )
    return [text[start:end] for start, end in spans]


def _cut(
    text: str,
    start: int,
    end: int,
    limit: int,
    separators: list[str],
    length: Callable[[str], int],
    embedder: Embedder,
) -> list[Span]:
    """Spans of at most `limit` tokens, cut at the first of the separators that serves."""
    part = text[start:end]
    if embedder.count([part])[0] <= limit:
        return [_stripped(text, start, end)] if part.strip() else []
    splitter = RecursiveCharacterTextSplitter(
        separators=separators,
        is_separator_regex=True,
        keep_separator=True,
        chunk_size=limit,
        chunk_overlap=0,
        length_function=length,
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


def _stripped(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _fitting(text: str, spans: Sequence[Span], limit: int, embedder: Embedder) -> list[Span]:
    """Halve what is still too long: a word sum can be short of the true count, and `""` cannot split."""
    counts = embedder.count([text[start:end] for start, end in spans])
    fitting: list[Span] = []
    for (start, end), count in zip(spans, counts, strict=True):
        if count <= limit or end - start < 2:
            fitting.append((start, end))
        else:
            middle = (start + end) // 2
            halves = [_stripped(text, start, middle), _stripped(text, middle, end)]
            fitting.extend(_fitting(text, [half for half in halves if half[0] < half[1]], limit, embedder))
    return fitting
