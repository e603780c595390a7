"""PDF to text, page by page: the only file that imports pypdfium2."""

import ctypes
import re
from functools import partial
from itertools import groupby
from unicodedata import combining

import pypdfium2  # type: ignore[import-untyped]
from pypdfium2 import raw

from indexer.errors import DamagedDocument, NoText, ProtectedDocument, UnsafeDocument
from indexer.reading.decoding import clean
from indexer.records import Document, Reading, Section

MOST_PAGES = 5_000
_RTL = "\u0590-\u08ff"
_JOINTS = re.compile(rf"(?<=[{_RTL}])(?=[A-Za-z])|(?<=[A-Za-z])(?=[{_RTL}])")
_HYPHENS = re.compile("\ufffe|\u00ad\n?|\x02\n?")  # how pdfium marks a hyphen at a line's end


def read_pdf(data: bytes) -> Reading:
    """One section per page. Raises `ProtectedDocument`, `DamagedDocument`, `UnsafeDocument`, `NoText`."""
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise ProtectedDocument("encrypted PDF: save a copy without a password") from error
        raise DamagedDocument("damaged PDF: it cannot be opened") from error
    if len(pdf) > MOST_PAGES:
        raise UnsafeDocument(f"{len(pdf)} pages: at most {MOST_PAGES} are read; split the file")
    sections: list[Section] = []
    broken: list[int] = []
    for number in range(1, len(pdf) + 1):
        try:
            sections.append(Section(_page_text(pdf[number - 1].get_textpage()) + "\n\n", page=number))
        except pypdfium2.PdfiumError:
            broken.append(number)
    if broken and not sections:
        raise DamagedDocument(f"damaged PDF: none of its {len(pdf)} pages can be read")
    if not any(section.text.strip() for section in sections):
        raise NoText("no text layer: a scan or drawing; run OCR over it first")
    title = str(pdf.get_metadata_dict().get("Title") or "").strip()
    errors = (f"damaged PDF: pages {', '.join(map(str, broken))} cannot be read",) if broken else ()
    return Reading((Document(clean(title), tuple(sections), "pdf"),), errors, _doubts(data, sections))


def _page_text(page: pypdfium2.PdfTextPage) -> str:
    text = page.get_text_range()
    if re.search(f"[{_RTL}]", text):
        text = _in_reading_order(page)
    text = _HYPHENS.sub("", clean(text))
    # Between the directions the gap is in the layout only.
    return _JOINTS.sub(" ", text).strip()


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
    empty = [str(section.page) for section in sections if not section.text.strip()]
    if empty:
        doubts.append(f"no text layer on page {', '.join(empty)}")
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
