"""DOCX to Markdown, by way of mammoth's HTML."""

import io
import zipfile
from xml.etree.ElementTree import ParseError

import mammoth  # type: ignore[import-untyped]
from bs4 import BeautifulSoup

from indexer.errors import DamagedDocument, UnsafeDocument
from indexer.reading.web import to_markdown
from indexer.records import Document, Reading, Section


def read_docx(data: bytes) -> Reading:
    """The document as one section: a DOCX file does not know where its pages end."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.namelist():
                if entry.endswith((".xml", ".rels")) and b"<!DOCTYPE" in archive.read(entry)[:4096].upper():
                    raise UnsafeDocument(f"{entry} declares entities: not a document a word processor wrote")
            title = _title(archive)
        converted = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=mammoth.images.img_element(_no_image)
        )
    except (zipfile.BadZipFile, KeyError, ParseError, ValueError, OSError, EOFError) as error:
        raise DamagedDocument(f"damaged DOCX: {error}") from error
    text = to_markdown(BeautifulSoup(converted.value, "lxml"))
    broken = sorted({message.message for message in converted.messages if message.type == "error"})
    return Reading((Document(title, (Section(text),), "docx"),), warnings=tuple(broken))


def _no_image(_image: object) -> dict[str, str]:
    return {"src": ""}


def _title(archive: zipfile.ZipFile) -> str:
    if "docProps/core.xml" not in archive.namelist():
        return ""
    found = BeautifulSoup(archive.read("docProps/core.xml"), "xml").find("title")
    return found.get_text(strip=True) if found else ""
