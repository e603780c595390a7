"""Bytes to text in whatever encoding they are."""

import codecs
import re

from indexer.errors import UnsupportedFormat

SUPPORTED = (
    "text, Markdown, HTML, XML, PDF, DOCX, DOC, PPTX, XLSX, XLS, ODT, ODS, ODP, RTF, EPUB, e-mail, CSV, "
    "JSON, JSONL, source code and zip archives of these"
)
_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPED = ((rb"~\{[!-~]{2}", "hz"), (rb"\x1b\$[@B]", "iso2022_jp"), (rb"\x1b\$\)C", "iso2022_kr"))
_DECLARED = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_SAMPLE = 1 << 18  # bytes that are looked at to guess
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROLS = 0.02  # of the characters; more is not text
_BROKEN = re.compile("[\x00\ud800-\udfff]")


def decode(data: bytes) -> str:
    """The text of `data`, cleaned; raises `UnsupportedFormat` when it is not text."""
    text = clean(data.decode(_encoding(data), errors="replace"))
    sample = text[:_SAMPLE]
    if len(_CONTROLS.findall(sample)) + sample.count("\ufffd") > _MOST_CONTROLS * len(sample) + 1:
        raise UnsupportedFormat(f"binary data of an unknown format; supported are {SUPPORTED}")
    return text


def clean(text: str) -> str:
    """Line ends as \\n, without what a database or UTF-8 cannot hold (NUL, lone surrogates)."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _BROKEN.sub(lambda found: "" if found[0] == "\x00" else "\ufffd", text)


def _encoding(data: bytes) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    wide = _wide(data[:4096])
    if wide:
        return wide
    sample = data[:_SAMPLE]
    if sample.isascii():
        for pattern, name in _ESCAPED:
            if re.search(pattern, sample) and _decodes(data, name):
                return name
    if _decodes(data, "utf-8"):
        return "utf-8"  # other encodings hardly ever look like valid UTF-8 by chance
    declared = _DECLARED.search(sample)
    if declared:
        name = declared[1].decode("ascii").lower()
        if name not in ("utf-8", "utf8") and _decodes(data, name):
            return name
    from charset_normalizer import from_bytes  # here: most text is UTF-8

    best = from_bytes(sample).best()
    return best.encoding if best else "utf-8"


def _wide(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: mostly Latin text has zeros at fixed places."""
    if len(head) < 8:
        return None
    zeros = [head[at::4].count(0) / len(head[at::4]) for at in range(4)]
    high = [share > 0.9 for share in zeros]
    if high[1:] == [True] * 3 and not high[0]:
        return "utf-32-le"
    if high[:3] == [True] * 3 and not high[3]:
        return "utf-32-be"
    if high == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if high == [True, False, True, False] else None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return False
    return True
