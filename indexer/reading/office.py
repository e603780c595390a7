"""DOCX to Markdown, by way of mammoth's HTML."""

import io
from xml.etree.ElementTree import ParseError

import mammoth  # type: ignore[import-untyped]

from indexer.errors import DamagedDocument, UnsafeDocument
from indexer.reading.archives import BROKEN, local, member, open_archive, parsed
from indexer.reading.decoding import clean
from indexer.reading.outline import outlined
from indexer.reading.outline import title as first_heading
from indexer.reading.web import parsed_html, to_markdown
from indexer.records import Document, Reading


def read_docx(data: bytes) -> Reading:
    """The document in sections by its headings: a DOCX file does not know where its pages end."""
    with open_archive(data) as archive:
        for entry in archive.namelist():
            if entry.endswith((".xml", ".rels")) and b"<!DOCTYPE" in member(archive, entry)[:4096].upper():
                raise UnsafeDocument(f"{entry} declares entities: not a document a word processor wrote")
        names = archive.namelist()
        core = member(archive, "docProps/core.xml") if "docProps/core.xml" in names else b""
    title = core_title(core)
    try:
        converted = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=mammoth.images.img_element(_no_image)
        )
    except (*BROKEN, ParseError) as error:
        raise DamagedDocument(f"damaged DOCX: {error}") from error
    sections = outlined(to_markdown(parsed_html(converted.value)))
    broken = sorted({message.message for message in converted.messages if message.type == "error"})
    return Reading((Document(title or first_heading(sections), sections, "docx"),), warnings=tuple(broken))


def core_title(core: bytes) -> str:
    """The title in an Office file's `docProps/core.xml`, given its bytes, or nothing."""
    if not core:
        return ""
    root = parsed(core, "docProps/core.xml", mend=True)
    return next((clean(each.text or "").strip() for each in root.iter() if local(each) == "title"), "")


def _no_image(_image: object) -> dict[str, str]:
    return {"src": ""}
