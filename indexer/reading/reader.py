"""Bytes to documents: sniff, then hand to the reader of that format."""

import re

from indexer.errors import NoText
from indexer.reading.decoding import decode
from indexer.reading.office import read_docx
from indexer.reading.pdf import read_pdf
from indexer.reading.sniffing import container, flavour
from indexer.reading.table import read_csv, read_jsonl
from indexer.reading.web import read_html
from indexer.records import Document, Reading, Section

_HEADING = re.compile(r"^#{1,3}\s+(.+?)\s*#*$", re.M)


def read(data: bytes, name: str, first_line: int = 1) -> Reading:
    """All documents in `data`. Not for the process that serves: call it through `sandbox`.

    `first_line` is the number of the first row when `data` is a later part of a JSONL file.
    Raises a subclass of `Unreadable`.
    """
    if not data.strip():
        raise NoText("an empty file")
    kind = container(data)
    if kind == "pdf":
        return read_pdf(data)
    if kind == "docx":
        return _with_text(read_docx(data))
    text = decode(data)
    kind = flavour(text, name)
    if kind == "jsonl":
        return read_jsonl(data, first_line)
    if kind == "csv":
        return read_csv(data)
    if kind == "html":
        return _with_text(Reading((read_html(data),)))
    heading = _HEADING.search(text) if kind == "markdown" else None
    return _with_text(Reading((Document(heading[1] if heading else "", (Section(text),), kind),)))


def _with_text(reading: Reading) -> Reading:
    if not any(document.text.strip() for document in reading.documents):
        raise NoText("no text in it")
    return reading
