"""Bytes to documents: sniff, then hand to the reader of that format."""

from collections.abc import Callable
from dataclasses import replace

from indexer.errors import NoText, Unreadable, UnsupportedFormat
from indexer.reading.archives import member, open_archive
from indexer.reading.book import read_epub
from indexer.reading.decoding import decode
from indexer.reading.mail import read_mail, read_mbox
from indexer.reading.markup import read_xml
from indexer.reading.office import read_docx
from indexer.reading.opendocument import read_odf
from indexer.reading.outline import outlined, title
from indexer.reading.pdf import read_pdf
from indexer.reading.rtf import read_rtf
from indexer.reading.sheets import read_workbook
from indexer.reading.slides import read_pptx
from indexer.reading.sniffing import container, contradiction, flavour
from indexer.reading.table import read_csv, read_json, read_jsonl
from indexer.reading.web import read_html
from indexer.reading.word97 import read_doc
from indexer.records import Document, Reading, Section

_DEEPEST = 2  # a file in an archive in a message, no further

_READERS: dict[str, Callable[[bytes], Reading]] = {
    "pdf": read_pdf,
    "doc": read_doc,
    "docx": read_docx,
    "pptx": read_pptx,
    "xlsx": lambda data: read_workbook(data, "xlsx"),
    "xls": lambda data: read_workbook(data, "xls"),
    "ods": lambda data: read_workbook(data, "ods"),
    "odt": lambda data: read_odf(data, "odt"),
    "odp": lambda data: read_odf(data, "odp"),
    "epub": read_epub,
    "rtf": read_rtf,
    "xml": read_xml,
    "csv": read_csv,
    "json": read_json,
    "html": lambda data: Reading((read_html(data),)),
}


def read(data: bytes, name: str, first_line: int = 1) -> Reading:
    """All documents in `data`. Not for the process that serves: call it through `sandbox`.

    `first_line` is the number of the first row when `data` is a later part of a JSONL file.
    Raises a subclass of `Unreadable`.
    """
    return _read(data, name, first_line, 0)


def _read(data: bytes, name: str, first_line: int, depth: int) -> Reading:
    if not data.strip():
        raise NoText("an empty file")
    text = ""
    kind = container(data)
    if kind is None:
        text = decode(data)
        kind = flavour(text, name)
    reading = _handed(data, text, kind, name, first_line, depth)
    if not any(document.text.strip() for document in reading.documents) and not reading.errors:
        raise NoText("no text in it")
    doubt = contradiction(kind, name)
    return replace(reading, warnings=(doubt, *reading.warnings)) if doubt else reading


def _handed(data: bytes, text: str, kind: str, name: str, first_line: int, depth: int) -> Reading:
    def inner(part: bytes, part_name: str) -> Reading:
        if depth >= _DEEPEST:
            raise UnsupportedFormat("packed too deep: unpack it first")
        return _read(part, part_name, 1, depth + 1)

    if kind in _READERS:
        return _READERS[kind](data)
    if kind == "jsonl":
        return read_jsonl(data, first_line)
    if kind == "mail":
        return read_mail(data, inner)
    if kind == "mbox":
        return read_mbox(data, inner)
    if kind == "zip":
        return _members(data, inner)
    sections = outlined(text) if kind == "markdown" else (Section(text),)
    return Reading((Document(title(sections), sections, kind),))


def _members(data: bytes, inner: Callable[[bytes, str], Reading]) -> Reading:
    """Every file of an archive, under its path; what cannot be read is named and the rest is read."""
    documents: list[Document] = []
    errors: list[str] = []
    warnings: list[str] = []
    with open_archive(data) as archive:
        for path in archive.namelist():
            parts = path.split("/")
            if path.endswith("/") or any(part.startswith((".", "__MACOSX")) for part in parts):
                continue
            try:
                reading = inner(member(archive, path), parts[-1])
            except Unreadable as error:
                errors.append(f"{path}: {error}")
                continue
            errors += [f"{path}: {error}" for error in reading.errors]
            warnings += [f"{path}: {warning}" for warning in reading.warnings]
            for number, document in enumerate(reading.documents, start=1):
                alone = len(reading.documents) == 1 and document.external_id is None
                identity = path if alone else f"{path}/{document.external_id or number}"
                documents.append(replace(document, title=document.title or parts[-1], external_id=identity))
    if not documents:
        raise UnsupportedFormat(f"zip archive with nothing to read in it: {'; '.join(errors[:3]) or 'empty'}")
    return Reading(tuple(documents), tuple(errors), tuple(warnings))
