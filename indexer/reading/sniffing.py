"""What format some bytes are in: decided by content; the name only settles ties between kinds of text."""

import csv
import io
import json
import re
import zipfile

from indexer.errors import DamagedDocument, ProtectedDocument, UnsafeDocument, UnsupportedFormat
from indexer.reading.decoding import SUPPORTED

MOST_ENTRIES = 2_000  # of a zip container
MOST_EXPANDED_BYTES = 200 << 20
MOST_RATIO = 100  # expanded / packed, of the whole container

_MAGIC = (
    (b"{\\rtf", "RTF"),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"II*\x00", "TIFF image"),
    (b"MM\x00*", "TIFF image"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ", "xz archive"),
    (b"7z\xbc\xaf", "7-Zip archive"),
    (b"Rar!", "RAR archive"),
    (b"\x7fELF", "program"),
    (b"SQLite format 3", "SQLite database"),
)
_MEMBERS = (
    ("word/document.xml", "docx"),
    ("xl/workbook.xml", "Excel workbook"),
    ("xl/workbook.bin", "Excel workbook"),
    ("ppt/presentation.xml", "PowerPoint presentation"),
    ("META-INF/container.xml", "EPUB book"),
    ("content.xml", "OpenDocument file"),
)
_HTML = re.compile(
    r"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|title|meta|script|style|table|div|p|h[1-6])\b",
    re.I | re.S,
)
_XML = re.compile(r"\s*(<\?xml\b|<!doctype\s|<!--|<[a-z_][\w.-]*:)", re.I)
_MAIL = re.compile(
    r"^(from|to|subject|date|mime-version|message-id|received|return-path|content-type|x-[\w-]+):",
    re.I | re.M,
)
_MARKDOWN = re.compile(r"^(#{1,6} \S|```|[-*] \[|> |\|.*\|$)|\[[^\]\n]+\]\([^)\n]+\)|^={3,}$", re.M)
_HEAD = 1 << 16  # characters that are looked at


def container(data: bytes) -> str | None:
    """`pdf` or `docx` when the bytes are that; None when they may be text.

    Raises `UnsupportedFormat`, `ProtectedDocument`, `DamagedDocument` or `UnsafeDocument`.
    """
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        if b"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e" in data:
            raise ProtectedDocument("password-protected Office document: save a copy without a password")
        raise UnsupportedFormat(f"old Office format (.doc, .xls, .ppt); supported are {SUPPORTED}")
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data)
    for magic, name in _MAGIC:
        if data.startswith(magic):
            raise UnsupportedFormat(f"{name}; supported are {SUPPORTED}")
    return None


def flavour(text: str, name: str) -> str:
    """`html`, `jsonl`, `csv`, `markdown` or `text`; raises `UnsupportedFormat` for XML and e-mail."""
    head = text[:_HEAD]
    suffix = name.rpartition(".")[2].lower()
    if _HTML.match(head):
        return (
            "markdown"
            if suffix in ("md", "markdown") and not re.match(r"\s*<(!doctype|html)", head, re.I)
            else "html"
        )
    if head.startswith("From ") or len(set(map(str.lower, _MAIL.findall(head.partition("\n\n")[0])))) >= 3:
        raise UnsupportedFormat(f"e-mail message; supported are {SUPPORTED}")
    if _XML.match(head) and suffix not in ("md", "markdown"):
        if re.search(r"<html\b", head, re.I):
            return "html"
        raise UnsupportedFormat(f"XML; supported are {SUPPORTED}")
    if _rows_of_json(head, suffix):
        return "jsonl"
    if suffix in ("md", "markdown"):
        return "markdown"
    if suffix in ("csv", "tsv") or _delimited(head):
        return "csv"
    return "markdown" if len(_MARKDOWN.findall(head)) >= 3 else "text"


def delimiter(text: str) -> str:
    """The character between the fields of a table: the one that splits its head most evenly."""
    try:
        return csv.Sniffer().sniff(text[:8192], ",;\t|").delimiter
    except csv.Error:
        return ","


def _rows_of_json(head: str, suffix: str) -> bool:
    first = head.lstrip().partition("\n")[0]
    if not first.startswith("{"):
        return False
    if suffix in ("jsonl", "ndjson"):
        return True
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _delimited(head: str) -> bool:
    """Four rows or more with one number of fields, three at least: prose does not do that."""
    lines = head.splitlines()[:20]
    if len(head) == _HEAD and len(lines) < 20:
        lines = lines[:-1]
    for mark in ",;\t|":
        try:
            widths = {len(row) for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark) if row}
        except csv.Error:
            continue
        if len(lines) >= 4 and len(widths) == 1 and widths.pop() >= 3:
            return True
    return False


def _zipped(data: bytes) -> str:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        what = "Office document" if b"[Content_Types].xml" in data[:512] else "zip archive"
        raise DamagedDocument(f"damaged or cut-off {what}: {error}") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise ProtectedDocument("encrypted zip archive: unpack it first")
    expanded = sum(entry.file_size for entry in entries)
    if (
        len(entries) > MOST_ENTRIES
        or expanded > MOST_EXPANDED_BYTES
        or expanded > MOST_RATIO * len(data) + (1 << 20)
    ):
        raise UnsafeDocument(
            f"{len(entries)} entries and {expanded >> 20} MiB inside {len(data) >> 10} KiB: "
            "over the limits for a document"
        )
    names = {entry.filename for entry in entries}
    for member, kind in _MEMBERS:
        if member in names:
            if kind == "docx":
                return kind
            raise UnsupportedFormat(f"{kind}; supported are {SUPPORTED}")
    raise UnsupportedFormat(f"zip archive: unpack it first; supported are {SUPPORTED}")
