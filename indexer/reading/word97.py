"""Word 97–2003 (.doc) to text: the only file that imports olefile.

After [MS-DOC]: the file information block says where the piece table is, and that where the text is.
"""

import io
import re
import struct
from collections.abc import Iterator

import olefile  # type: ignore[import-untyped]

from indexer.errors import DamagedDocument, NoText, ProtectedDocument, UnsupportedFormat
from indexer.reading.decoding import clean
from indexer.records import Document, Reading, Section

_MAGIC = 0xA5EC
_FLAGS, _MAIN_CHARACTERS, _CLX = 0x0A, 0x4C, 0x1A2  # offsets in the file information block
_ENCRYPTED, _TABLE_1 = 0x0100, 0x0200
_OLDEST = 0xC1  # of Word 97; before it the block is laid out in another way
_INSTRUCTION = re.compile(r"\x13[^\x13-\x15]*(?:\x14|(?=\x15))|[\x13-\x15]")  # a field's, not its result
_OBJECTS = re.compile("[\x01-\x08\x0e-\x1d\x1f]")
_MARKS = {"\r": "\n", "\x0b": "\n", "\x0c": "\n\n", "\x07": " | ", "\x1e": "-", "\xa0": " "}
_BLANK = re.compile(r"\n{3,}")


def read_doc(data: bytes) -> Reading:
    """The main text as one section, table cells between pipes.

    Raises `DamagedDocument`, `ProtectedDocument`, `UnsupportedFormat` for what is older than Word 97.
    """
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as archive:
            main = archive.openstream("WordDocument").read()
            number, flags = struct.unpack_from("<H", main, 2)[0], struct.unpack_from("<H", main, _FLAGS)[0]
            if struct.unpack_from("<H", main)[0] != _MAGIC or number < _OLDEST:
                raise UnsupportedFormat("Word document of before 1997: save it as .docx")
            if flags & _ENCRYPTED:
                raise ProtectedDocument("password-protected Word document: save a copy without a password")
            table = archive.openstream("1Table" if flags & _TABLE_1 else "0Table").read()
        start, size = struct.unpack_from("<II", main, _CLX)
        text = "".join(_pieces(main, table[start : start + size]))
    except (OSError, struct.error, IndexError, ValueError, TypeError, KeyError) as error:
        raise DamagedDocument(f"damaged Word document: {error}") from error
    text = _tidy(text[: struct.unpack_from("<I", main, _MAIN_CHARACTERS)[0]])
    if not text:
        raise NoText("no text in it")
    # The title is left: olefile reads properties for minutes when their claimed number is damaged.
    return Reading((Document("", (Section(text + "\n"),), "doc"),))


def _pieces(main: bytes, clx: bytes) -> Iterator[str]:
    """The document's characters, piece by piece; notes and headers come after the main text."""
    at = 0
    while clx[at] == 1:  # properties, each with its size
        at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
    if clx[at] != 2:
        raise ValueError("no piece table")
    many = (struct.unpack_from("<I", clx, at + 1)[0] - 4) // 12
    at += 5
    if many < 0 or at + 12 * many + 4 > len(clx):
        raise ValueError("the piece table is longer than the file")
    ends = struct.unpack_from(f"<{many + 1}I", clx, at)
    for number in range(many):
        characters = max(0, ends[number + 1] - ends[number])
        place = struct.unpack_from("<I", clx, at + 4 * (many + 1) + 8 * number + 2)[0]
        if place & 1 << 30:
            place = (place & (1 << 30) - 1) // 2
            yield main[place : place + characters].decode("cp1252", errors="replace")
        else:
            yield main[place : place + 2 * characters].decode("utf-16-le", errors="replace")


def _tidy(text: str) -> str:
    text = _INSTRUCTION.sub("", text.replace("\x07\x07", "\r"))
    for mark, said in _MARKS.items():
        text = text.replace(mark, said)
    return _BLANK.sub("\n\n", clean(_OBJECTS.sub("", text))).strip()
