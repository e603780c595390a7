"""PDF to text, page by page: the only file that imports pypdfium2."""

import ctypes
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from unicodedata import combining

import pypdfium2  # type: ignore[import-untyped]
from pypdfium2 import raw

from indexer.errors import DamagedDocument, NoText, ProtectedDocument, UnsafeDocument
from indexer.reading.bookmarks import Bookmark, Piece, headed
from indexer.reading.columns import Strip, in_columns
from indexer.reading.decoding import clean
from indexer.reading.ruled import Glyph, Grid, Line, consecutive, edges, grids, written
from indexer.records import Document, Reading, Section

MOST_PAGES = 5_000
MOST_BOOKMARKS = 20_000
_DEEPEST = 6  # headings in headings
_MOST_SEGMENTS = 4_000  # of the paths of a page
_RTL = "\u0590-\u08ff"
_JOINTS = re.compile(rf"(?<=[{_RTL}])(?=[A-Za-z])|(?<=[A-Za-z])(?=[{_RTL}])")
_HYPHENS = re.compile("\ufffe|\u00ad\n?|\x02\n?")  # how pdfium marks a hyphen at a line's end


def read_pdf(data: bytes) -> Reading:
    """Sections by page, bookmark and table.

    Raises `ProtectedDocument`, `DamagedDocument`, `UnsafeDocument`, `NoText`.
    """
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ProtectedDocument("encrypted PDF: save a copy without a password") from error
        raise DamagedDocument("damaged PDF: it cannot be opened") from error
    if len(pdf) > MOST_PAGES:
        raise UnsafeDocument(f"{len(pdf)} pages: at most {MOST_PAGES} are read; split the file")
    outline = _outline(pdf)
    sections: list[Section] = []
    broken: list[int] = []
    path: list[str] = []
    for number in range(1, len(pdf) + 1):
        try:
            pieces = _pieces(pdf[number - 1])
        except pypdfium2.PdfiumError:
            broken.append(number)
            continue
        sections += headed(pieces, number, outline.get(number, []), path)
    if broken and not sections:
        raise DamagedDocument(f"damaged PDF: none of its {len(pdf)} pages can be read")
    if not any(section.text.strip() for section in sections):
        raise NoText("no text layer: a scan or drawing; run OCR over it first")
    title = str(pdf.get_metadata_dict().get("Title") or "").strip()
    errors = (f"damaged PDF: pages {', '.join(map(str, broken))} cannot be read",) if broken else ()
    return Reading((Document(clean(title), tuple(sections), "pdf"),), errors, _doubts(data, sections))


def _outline(pdf: pypdfium2.PdfDocument) -> dict[int, list[Bookmark]]:
    """Page number -> bookmarks that lead to it, in their order."""
    found: dict[int, list[Bookmark]] = {}
    for bookmark in islice(pdf.get_toc(max_depth=_DEEPEST), MOST_BOOKMARKS):
        target = bookmark.get_dest()
        page = target.get_index() if target else None
        title = " ".join(clean(bookmark.get_title() or "").split())
        if page is not None and title:
            found.setdefault(page + 1, []).append(Bookmark(bookmark.level, title))
    return found


def _pieces(page: pypdfium2.PdfPage) -> list[Piece]:
    """The page's text in reading order, tables apart; it ends with an empty line."""
    textpage = page.get_textpage()
    text = textpage.get_text_range()
    if re.search(f"[{_RTL}]", text):
        return [Piece(_tidy(_in_reading_order(textpage)) + "\n\n")]
    tables = consecutive(grids(_lines(page)))
    if tables:
        return _with_tables(textpage, tables)
    return [Piece(_tidy(_by_column(textpage, page.get_width()) or text) + "\n\n")]


def _tidy(text: str) -> str:
    text = _HYPHENS.sub("", clean(text))
    # Between the directions the gap is in the layout only.
    return _JOINTS.sub(" ", text).strip()


def _by_column(textpage: pypdfium2.PdfTextPage, width: float) -> str:
    """The page read column by column where its lines come across the columns, else nothing."""
    many = textpage.count_rects()
    strips = [Strip(*textpage.get_rect(at)) for at in range(min(many, _MOST_SEGMENTS))]
    order = in_columns(strips, width) if many == len(strips) else None
    return "\n".join(textpage.get_text_bounded(*strips[at]).strip() for at in order) if order else ""


def _lines(page: pypdfium2.PdfPage) -> Iterator[Line]:
    """Straight lines and the edges of boxes that are drawn on the page."""
    seen = 0
    for drawn in page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH], max_depth=1):
        many = raw.FPDFPath_CountSegments(drawn)
        seen += max(0, many)
        if seen > _MOST_SEGMENTS:
            return
        left, bottom, right, top = drawn.get_bounds()
        if min(right - left, top - bottom) <= 2:  # a thin box is a line, and a line its own bounds
            yield (
                Line(left, bottom, right, bottom)
                if right - left > top - bottom
                else Line(left, bottom, left, top)
            )
            continue
        yield from _edges(drawn, many)


def _edges(drawn: pypdfium2.PdfObject, many: int) -> Iterator[Line]:
    matrix = drawn.get_matrix()
    x, y = ctypes.c_float(), ctypes.c_float()
    points: list[tuple[float, float]] = []
    for at in range(many):
        segment = raw.FPDFPath_GetPathSegment(drawn, at)
        kind = raw.FPDFPathSegment_GetType(segment)
        if not raw.FPDFPathSegment_GetPoint(segment, x, y):
            return
        if kind == raw.FPDF_SEGMENT_MOVETO:
            yield from edges(points, False)
            points = []
        points.append(matrix.on_point(x.value, y.value))
        if kind == raw.FPDF_SEGMENT_BEZIERTO:
            points = points[-1:]
        elif raw.FPDFPathSegment_GetClose(segment):
            yield from edges(points, True)
            points = []
    yield from edges(points, False)


def _with_tables(textpage: pypdfium2.PdfTextPage, tables: Sequence[Grid]) -> list[Piece]:
    """The page with the characters inside the grids as Markdown tables, where the first of them stands."""
    inside: list[list[Glyph]] = [[] for _ in tables]
    runs: list[tuple[int | None, list[str]]] = [(None, [])]
    for glyph in _glyphs(textpage):
        owner = runs[-1][0]
        if glyph.x is not None and glyph.y is not None:
            owner = next((at for at, grid in enumerate(tables) if grid.cell(glyph.x, glyph.y)), None)
        if owner != runs[-1][0]:
            runs.append((owner, []))
        runs[-1][1].append(glyph.char)
        if owner is not None:
            inside[owner].append(glyph)
    found = [written(grid, glyphs) for grid, glyphs in zip(tables, inside, strict=True)]
    pieces: list[Piece] = []
    shown: set[int] = set()
    for owner, chars in runs:
        table = None if owner is None else found[owner]
        if table is None or owner is None:
            text = _tidy("".join(chars))
            pieces += [Piece(text + "\n\n")] if text else []
        elif owner not in shown:
            shown.add(owner)
            rows = _tidy(table.table)
            lead = "".join(rows.splitlines(keepends=True)[:2])
            around = [Piece(_tidy(text) + "\n\n") if text else None for text in (table.above, table.below)]
            pieces += [piece for piece in (around[0], Piece(rows + "\n\n", lead), around[1]) if piece]
    return pieces or [Piece("\n\n")]


def _glyphs(textpage: pypdfium2.PdfTextPage) -> Iterator[Glyph]:
    left, right, bottom, top = ctypes.c_double(), ctypes.c_double(), ctypes.c_double(), ctypes.c_double()
    for at in range(textpage.count_chars()):
        char = chr(raw.FPDFText_GetUnicode(textpage, at))
        if char.isspace() or not raw.FPDFText_GetCharBox(textpage, at, left, right, bottom, top):
            yield Glyph(char, None, None)
        else:
            yield Glyph(char, (left.value + right.value) / 2, (bottom.value + top.value) / 2)


def _in_reading_order(page: pypdfium2.PdfTextPage) -> str:
    """The page's text with the letters of each right-to-left glyph as they are read.

    pdfium turns a glyph of several letters (lam-alef, or a whole word) into characters as they stand
    on the line. They have the one glyph's origin, by which they differ from letters side by side.
    """
    text = [chr(raw.FPDFText_GetUnicode(page, at)) for at in range(page.count_chars())]
    for found in re.finditer(f"[{_RTL}]{{2,}}", "".join(text)):
        places = range(found.start(), found.end())
        for _, glyph in groupby(places, key=partial(_origin, page)):
            at = list(glyph)
            start, end = at[0], at[-1]
            letters = text[start : end + 1]
            if sum(not combining(letter) for letter in letters) > 1:  # not a letter with its marks
                text[start : end + 1] = reversed(letters)
    return "".join(text)


def _origin(page: pypdfium2.PdfTextPage, at: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(page, at, x, y)
    return x.value, y.value


def _doubts(data: bytes, sections: list[Section]) -> tuple[str, ...]:
    """What the reader mended or skipped in silence."""
    doubts = []
    if not _in_order(data):
        doubts.append("damaged PDF: its table of objects is wrong, the text may be incomplete")
    pages = dict.fromkeys(section.page for section in sections)
    empty = pages.keys() - {section.page for section in sections if section.text.strip()}
    if empty:
        doubts.append(f"no text layer on page {', '.join(str(page) for page in pages if page in empty)}")
    return tuple(doubts)


def _in_order(data: bytes) -> bool:
    """Whether the last cross-reference is where the file says, and its entries lead to their objects."""
    data = data[data.find(b"%PDF-") :]  # offsets count from the header
    found = re.search(rb"startxref\s+(\d+)\s+%%EOF\s*$", data[-2048:])
    if not found:
        return False
    table = data[int(found[1]) :]
    if re.match(rb"\s*\d+\s+\d+\s+obj", table):
        return True  # a cross-reference stream: compressed, and checked by its own filter
    number = 0
    lines = re.match(rb"\s*xref\s+((?:\d+ +\d+(?: +[nf])?\s+)+)trailer", table)
    if not lines:
        return False
    for first, second, kind in re.findall(rb"(\d+) +(\d+)(?: +([nf]))?", lines[1]):
        if not kind:
            number = int(first)
            continue
        expected = rb"\s*%d\s+%d\s+obj" % (number, int(second))
        if kind == b"n" and not re.match(expected, data[int(first) : int(first) + 40]):
            return False
        number += 1
    return True
