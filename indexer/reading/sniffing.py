"""What format some bytes are in: decided by content; the name only settles ties between kinds of text."""

import csv
import io
import json
import re

from indexer.errors import NoText, ProtectedDocument, UnsupportedFormat
from indexer.reading.archives import member, open_archive
from indexer.reading.decoding import SUPPORTED

_IMAGES = (
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
)
_MAGIC = (
    (b"\x1f\x8b", "gzip archive: unpack it first"),
    (b"BZh", "bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive: unpack it first"),
    (b"7z\xbc\xaf", "7-Zip archive: unpack it first"),
    (b"Rar!", "RAR archive: unpack it first"),
    (b"\x7fELF", "program"),
    (b"SQLite format 3", "SQLite database: export its tables as CSV"),
)
_MEMBERS = (
    ("word/document.xml", "docx"),
    ("xl/workbook.xml", "xlsx"),
    ("xl/workbook.bin", "xlsx"),
    ("ppt/presentation.xml", "pptx"),
    ("META-INF/container.xml", "epub"),
)
_ODF = {"text": "odt", "spreadsheet": "ods", "presentation": "odp"}
_OLE = (  # names in the directory of an OLE file, UTF-16
    ("EncryptedPackage", ""),
    ("PowerPoint Document", "old PowerPoint format (.ppt): save it as .pptx"),
    ("__substg1.0_", "Outlook message (.msg): save it as .eml"),
)
_HTML = re.compile(r"\s*<(!doctype\s+html|html|head|body|title|meta|script|style|table|div|p|h[1-6])\b", re.I)
_XML = re.compile(r"\s*(<\?xml\b|<!doctype\s|<!--|<[a-z_][\w.-]*[\s:>/])", re.I)
_MAIL = re.compile(
    r"^(from|to|subject|date|mime-version|message-id|received|return-path|content-type|x-[\w-]+):",
    re.I | re.M,
)
_MBOX = re.compile(r"From \S+.*\d\d:\d\d.*\n(>?[\w-]+:)")
_MARKDOWN = re.compile(
    r"^(#{1,6} \S|```|[-*] \[|> |\|.*\|$)|\[[^\]\n]{1,200}\]\([^)\n]{1,500}\)|^={3,}$", re.M
)
_HEAD = 1 << 16  # characters that are looked at
_MARKDOWN_NAMES = ("md", "markdown", "mdx")

LANGUAGES = {
    "c": "c", "h": "c", "cc": "cpp", "cpp": "cpp", "cxx": "cpp", "hpp": "cpp", "hh": "cpp", "cu": "cpp",
    "cs": "csharp", "go": "go", "java": "java", "js": "js", "mjs": "js", "cjs": "js", "jsx": "js",
    "ts": "ts", "tsx": "ts", "kt": "kotlin", "kts": "kotlin", "php": "php", "proto": "proto",
    "py": "python", "pyi": "python", "pyx": "python", "r": "r", "rb": "ruby", "rs": "rust",
    "scala": "scala", "swift": "swift", "sol": "sol", "cob": "cobol", "cbl": "cobol", "lua": "lua",
    "pl": "perl", "pm": "perl", "hs": "haskell", "ex": "elixir", "exs": "elixir", "ps1": "powershell",
    "bas": "visualbasic6", "rst": "rst", "tex": "latex",
}  # fmt: skip
"""A file's suffix -> the language its text is in, as the splitter knows it."""
_TEXTS = frozenset({"text", "markdown", "csv", "jsonl", "json", *LANGUAGES.values()})
_CLAIMS = {
    "txt": _TEXTS, "pdf": {"pdf"}, "docx": {"docx"}, "doc": {"doc"}, "xlsx": {"xlsx"}, "xls": {"xls"},
    "pptx": {"pptx"}, "ppt": set(), "odt": {"odt"}, "ods": {"ods"}, "odp": {"odp"}, "epub": {"epub"},
    "rtf": {"rtf"}, "html": {"html", "xml"}, "htm": {"html", "xml"}, "csv": _TEXTS, "tsv": _TEXTS,
    "eml": {"mail", "mbox"}, "zip": {"zip"},
}  # fmt: skip


def container(data: bytes) -> str | None:
    """The format of bytes that are no text (and of RTF); None when they may be text.

    Raises `UnsupportedFormat`, `NoText` for pictures, `ProtectedDocument`, `DamagedDocument` or
    `UnsafeDocument`.
    """
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(b"{\\rtf"):
        return "rtf"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return _ole(data)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(data)
    for magic, name in _IMAGES:
        if data.startswith(magic) and (magic != b"BM" or b"\0" in data[:32]):
            raise NoText(f"{name} image: no text layer; run OCR over it first")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        raise NoText("WebP image: no text layer; run OCR over it first")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            raise UnsupportedFormat(f"{name}; supported are {SUPPORTED}")
    return None


def flavour(text: str, name: str) -> str:
    """`html`, `xml`, `mail`, `mbox`, `jsonl`, `json`, `csv`, `markdown`, `text`, or one of `LANGUAGES`."""
    head = text[:_HEAD]
    suffix = _suffix(name)
    if suffix in LANGUAGES:
        return LANGUAGES[suffix]
    markdown = suffix in _MARKDOWN_NAMES
    if _HTML.match(_uncommented(head)) and not (
        markdown and not re.match(r"\s*<(!doctype|html)", head, re.I)
    ):
        return "html"
    if _MBOX.match(head):
        return "mbox"
    if len(set(map(str.lower, _MAIL.findall(head.partition("\n\n")[0])))) >= 3 and _MAIL.match(head.lstrip()):
        return "mail"
    if _XML.match(head) and not markdown and text.rstrip().endswith(">"):
        return "html" if re.search(r"<html\b", head, re.I) else "xml"
    if head.lstrip()[:1] in "{[" and (kind := _json(text, head, suffix)):
        return kind
    if markdown:
        return "markdown"
    if suffix in ("csv", "tsv") or _delimited(head):
        return "csv"
    if script := re.match(r"#!.*\b(python|perl|ruby|node|lua)", head):
        return {"node": "js"}.get(script[1], script[1])
    return "markdown" if len(_MARKDOWN.findall(head)) >= 3 else "text"


def contradiction(kind: str, name: str) -> str:
    """A sentence where a file's name promises another format than it has, else nothing."""
    claimed = _CLAIMS.get(_suffix(name))
    if claimed is None or kind in claimed:
        return ""
    return f"its name ends in .{_suffix(name)}, its content is {kind.upper()}: read as that"


def delimiter(text: str) -> str:
    """The character between the fields of a table: the one that splits its head most evenly."""
    try:
        return csv.Sniffer().sniff(text[:8192], ",;\t|").delimiter
    except csv.Error:
        return ","


def _uncommented(head: str) -> str:
    """The text after the comments it begins with."""
    start = len(head) - len(head.lstrip())
    while head.startswith("<!--", start):
        end = head.find("-->", start)
        if end < 0:
            break
        start = end + 3
        while start < len(head) and head[start].isspace():
            start += 1
    return head[start:]


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _json(text: str, head: str, suffix: str) -> str:
    """`jsonl` where a line is an object, `json` where the whole is a value."""
    first = head.lstrip().partition("\n")[0]
    if first.startswith("{"):
        if suffix in ("jsonl", "ndjson"):
            return "jsonl"
        try:
            return "jsonl" if isinstance(json.loads(first), dict) else ""
        except (ValueError, RecursionError):
            pass
    if suffix == "json":
        return "json"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return "json"


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


def _ole(data: bytes) -> str:
    """`doc` or `xls`; other files of the old Office container are refused with the way out."""
    for entry, refusal in _OLE:
        if entry.encode("utf-16-le") in data:
            if refusal:
                raise UnsupportedFormat(f"{refusal}; supported are {SUPPORTED}")
            raise ProtectedDocument("password-protected Office document: save a copy without a password")
    for kind, names in (("doc", ("WordDocument",)), ("xls", ("Workbook", "Book"))):
        if any(name.encode("utf-16-le") in data for name in names):
            return kind
    raise UnsupportedFormat(f"old Office format: save it as .docx, .xlsx or .pptx; supported are {SUPPORTED}")


def _zipped(data: bytes) -> str:
    with open_archive(data) as archive:
        names = set(archive.namelist())
        for entry, kind in _MEMBERS:
            if entry in names:
                return kind
        if "content.xml" in names:
            claimed = member(archive, "mimetype").decode("latin-1") if "mimetype" in names else ""
            kind = claimed.rpartition("opendocument.")[2].strip().removesuffix("-template")
            if kind in _ODF:
                return _ODF[kind]
            raise UnsupportedFormat(f"OpenDocument {kind or 'file'}; supported are {SUPPORTED}")
    return "zip"
