"""ODT and ODP to Markdown: their XML is renamed to HTML, which already has a way to Markdown."""

from typing import Any

from bs4 import Tag
from lxml import etree  # type: ignore[import-untyped]

from indexer.errors import NoText
from indexer.reading.archives import local, member, open_archive, parsed
from indexer.reading.decoding import clean
from indexer.reading.outline import outlined
from indexer.reading.outline import title as first_heading
from indexer.reading.web import parsed_html, to_markdown
from indexer.records import Document, Reading, Section

_NAMES = {
    "p": "p", "list": "ul", "list-item": "li", "list-header": "li", "table": "table", "table-row": "tr",
    "table-cell": "td", "covered-table-cell": "i", "line-break": "br", "notes": "blockquote",
}  # fmt: skip
_SILENT = (
    "tracked-changes",
    "annotation",
    "forms",
    "sequence-decls",
    "script",
    "event-listeners",
    "desc",
    "title",
)
_MOST_REPEATED = 64  # cells and spaces; a file may claim any number


def read_odf(data: bytes, kind: str) -> Reading:
    """`odt` as sections by its headings, `odp` with a page for each slide."""
    with open_archive(data) as archive:
        root = parsed(member(archive, "content.xml"), "content.xml")
        meta = member(archive, "meta.xml") if "meta.xml" in archive.namelist() else b""
    title = ""
    if meta:
        about = parsed(meta, "meta.xml", mend=True)
        title = next((clean(each.text or "").strip() for each in about.iter() if local(each) == "title"), "")
    body = next((each for each in root if local(each) == "body"), None)
    if body is None:
        raise NoText("no text in it")
    sections: list[Section] = []
    pages = [each for each in body.iter() if local(each) == "page"] if kind == "odp" else []
    for number, part in enumerate(pages or [body], start=1):
        page = number if pages else None
        sections += outlined(_markdown(part) + ("\n" if pages else ""), page)
    return Reading((Document(title or first_heading(sections), tuple(sections), kind),))


def _markdown(part: Any) -> str:
    html = etree.Element("div")
    _convert(part, html)
    soup = parsed_html(etree.tostring(html, encoding="unicode"))
    for cell in soup.find_all("i", class_="covered"):
        if isinstance(cell, Tag):
            cell.decompose()
    return to_markdown(soup)


def _convert(source: Any, target: Any) -> None:
    """Append what `source` holds to the HTML element `target`."""
    say(target, source.text)
    for child in source:
        name = local(child)
        if name and name not in _SILENT:
            made = _made(child, name, target)
            if made is not None:
                _convert(child, made)
        say(target, child.tail)


def _made(child: Any, name: str, target: Any) -> Any:
    if name == "h":
        level = _attribute(child, "outline-level")
        return etree.SubElement(target, f"h{min(6, max(1, int(level) if level.isdecimal() else 1))}")
    if name in ("tab", "s"):
        many = _attribute(child, "c")
        say(target, " " * min(_MOST_REPEATED, int(many) if many.isdecimal() else 1))
        return None
    if name == "frame" and _attribute(child, "class", "presentation") == "title":
        return etree.SubElement(target, "h1")
    if name == "notes" and "presentation" in child.tag:
        made = etree.SubElement(target, "div")
        say(made, "Notes: ")
        return made
    made = etree.SubElement(target, _NAMES.get(name, "span" if name in ("span", "a") else "div"))
    if name == "covered-table-cell":
        made.set("class", "covered")
    for which in ("number-columns-spanned", "number-rows-spanned"):
        if _attribute(child, which):
            made.set("colspan" if "columns" in which else "rowspan", _attribute(child, which))
    return made


def _attribute(element: Any, name: str, prefix: str = "") -> str:
    for key, value in element.attrib.items():
        if key.endswith(f"}}{name}") and prefix in key:
            return str(value)
    return ""


def say(target: Any, text: str | None) -> None:
    """Put text at the end of an element."""
    if not text:
        return
    if len(target):
        target[-1].tail = (target[-1].tail or "") + text
    else:
        target.text = (target.text or "") + text
