"""Bytes to documents: sniff, then hand to the reader of that format."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from indexer.errors import NoText, Unreadable, UnsupportedFormat
from indexer.reading.archives import member, open_archive
from indexer.reading.decoding import decode
from indexer.reading.outline import outlined, title
from indexer.reading.sniffing import container, contradiction, flavour
from indexer.reading.table import read_csv, read_json, read_jsonl
from indexer.records import Document, Reading, Section

_DEEPEST = 2  # a file in an archive in a message, no further

_READERS: dict[str, tuple[str, str]] = {  # module and function, imported when a first one of its kind comes
    "pdf": ("pdf", "read_pdf"),
    "doc": ("word97", "read_doc"),
    "docx": ("office", "read_docx"),
    "pptx": ("slides", "read_pptx"),
    "xlsx": ("sheets", "read_workbook"),
    "xls": ("sheets", "read_workbook"),
    "ods": ("sheets", "read_workbook"),
    "odt": ("opendocument", "read_odf"),
    "odp": ("opendocument", "read_odf"),
    "epub": ("book", "read_epub"),
    "rtf": ("rtf", "read_rtf"),
    "xml": ("markup", "read_xml"),
    "html": ("web", "read_html"),
    "mail": ("mail", "read_mail"),
    "mbox": ("mail", "read_mbox"),
}
_TOLD = ("read_workbook", "read_odf")  # which kind it is
_HANDING = ("read_mail", "read_mbox")  # what is attached on to `read`
MODULES = (*sorted({f"indexer.reading.{module}" for module, _ in _READERS.values()}), "charset_normalizer")


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
        module, name = _READERS[kind]
        reader = getattr(import_module(f"indexer.reading.{module}"), name)
        more = (kind,) if name in _TOLD else (inner,) if name in _HANDING else ()
        found: Reading | Document = reader(data, *more)
        return Reading((found,)) if isinstance(found, Document) else found
    if kind == "csv":
        return read_csv(data)
    if kind == "json":
        return read_json(data)
    if kind == "jsonl":
        return read_jsonl(data, first_line)
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
