"""EPUB to text: the chapters of the spine, in reading order."""

import posixpath
import zipfile
from typing import Any
from urllib.parse import unquote

from indexer.errors import DamagedDocument, ProtectedDocument
from indexer.reading.archives import local, member, open_archive, parsed
from indexer.reading.decoding import clean, decode
from indexer.reading.outline import outlined
from indexer.reading.web import parsed_html, to_markdown
from indexer.records import Document, Reading, Section


def read_epub(data: bytes) -> Reading:
    """One document; a chapter without a heading of its own has its name from the contents."""
    sections: list[Section] = []
    errors: list[str] = []
    with open_archive(data) as archive:
        names = set(archive.namelist())
        if "META-INF/rights.xml" in names or "META-INF/sinf.xml" in names:
            raise ProtectedDocument("EPUB with digital rights management: a copy without it is needed")
        container = parsed(member(archive, "META-INF/container.xml"), "META-INF/container.xml", mend=True)
        package = next(
            (each.get("full-path", "") for each in container.iter() if local(each) == "rootfile"), ""
        )
        root = parsed(member(archive, package), package, mend=True)
        folder = posixpath.dirname(package)
        items = {each.get("id"): each for each in root.iter() if local(each) == "item"}
        spine = [items[each.get("idref")] for each in root.iter()
                 if local(each) == "itemref" and each.get("idref") in items]  # fmt: skip
        labels = _labels(archive, folder, items.values(), names)
        for item in spine:
            path = _inside(folder, item.get("href", ""))
            if "properties" in item.attrib and "nav" in item.get("properties").split():
                continue
            try:
                soup = parsed_html(decode(member(archive, path)))
            except DamagedDocument as error:
                errors.append(str(error))
                continue
            named = soup.find(["h1", "h2", "h3", "h4", "h5", "h6"]) is not None
            above = () if named or path not in labels else (labels[path],)
            sections += outlined(to_markdown(soup) + "\n", above=above)
    if errors and not sections:
        raise DamagedDocument(f"damaged EPUB: {errors[0]}")
    title = next((each.text or "" for each in root.iter() if local(each) == "title"), "")
    return Reading((Document(clean(title).strip(), tuple(sections), "epub"),), tuple(errors))


def _inside(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _labels(archive: zipfile.ZipFile, folder: str, items: Any, names: set[str]) -> dict[str, str]:
    """Chapter file -> its first name in the table of contents (NCX of EPUB 2, nav of EPUB 3)."""
    labels: dict[str, str] = {}
    for item in items:
        path = _inside(folder, item.get("href", ""))
        ncx = item.get("media-type") == "application/x-dtbncx+xml"
        if not (ncx or "nav" in item.get("properties", "").split()) or path not in names:
            continue
        try:
            root = parsed(member(archive, path), path, mend=True)
        except DamagedDocument:
            continue  # the chapters are there without their names
        for point in root.iter():
            if local(point) == ("navPoint" if ncx else "a"):
                source = next((each.get("src") for each in point if local(each) == "content"), None)
                label = next((each for each in point if local(each) == "navLabel"), point)
                href = source if ncx else point.get("href")
                if href:
                    words = " ".join("".join(label.itertext()).split())
                    labels.setdefault(_inside(posixpath.dirname(path), href), clean(words))
    return labels
