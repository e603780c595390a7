"""RTF to text: the only file that imports striprtf."""

import re

from striprtf.striprtf import rtf_to_text

from indexer.errors import DamagedDocument, NoText
from indexer.reading.decoding import clean
from indexer.records import Document, Reading, Section

_TITLE = re.compile(r"\{\\title\b ?([^{}]{0,500})\}")
_CODEPAGE = re.compile(r"\\ansicpg\d+")
_OVERRIDE = re.compile(r"\{\\listoverride\b((?:[^{}]|\{[^{}]{0,200}\}){0,400})\}")
_BLANK = re.compile(r"\n{3,}")


def read_rtf(data: bytes) -> Reading:
    """The document as one section, table cells between pipes. Raises `DamagedDocument`, `NoText`."""
    source = data.decode("latin-1")
    try:
        text = _plain(source)
        found = _TITLE.search(source)
        page = _CODEPAGE.search(source[:4096])
        title = _plain(f"{{\\rtf1{page[0] if page else ''} {found[1]}}}") if found else ""
    except (ValueError, LookupError, IndexError, TypeError) as error:
        raise DamagedDocument(f"damaged RTF: {error}") from error
    text = _BLANK.sub("\n\n", clean(text)).strip()
    if not text:
        raise NoText("no text in it")
    readable = title.count("?") + title.count("\ufffd") <= len(title) // 4
    document = Document(clean(title).strip() if readable else "", (Section(text + "\n"),), "rtf")
    return Reading((document,), warnings=_doubts(source))


def _plain(source: str) -> str:
    return str(rtf_to_text(source, errors="replace"))  # type: ignore[no-untyped-call]


def _doubts(source: str) -> tuple[str, ...]:
    doubts = []
    if not source.rstrip("\0\r\n\t ").endswith("}"):
        doubts.append("damaged RTF: cut off before its end")
    if any(
        "\\leveltext" in found[1] and "\\lfolevel" not in found[1] for found in _OVERRIDE.finditer(source)
    ):
        doubts.append("damaged RTF: a list override without its level, list numbers may be wrong")
    return tuple(doubts)
