"""XML to text: articles (JATS, DocBook, TEI) by their sections, other XML as the values it names."""

from collections.abc import Iterator
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from indexer.errors import NoText
from indexer.reading.archives import local, parsed
from indexer.reading.decoding import clean
from indexer.reading.opendocument import say
from indexer.reading.outline import outlined, plain
from indexer.reading.web import parsed_html, to_markdown
from indexer.records import Document, Reading, Section

_ARTICLES = frozenset(
    ["article", "book", "chapter", "section", "sect1", "part", "TEI", "TEI.2", "topic", "concept", "task"]
)
_PARAGRAPHS = frozenset(["p", "para", "simpara"])
_SECTIONS = frozenset(
    [
        "sec",
        "section",
        "sect1",
        "sect2",
        "sect3",
        "sect4",
        "sect5",
        "chapter",
        "abstract",
        "trans-abstract",
        "ack",
        "app",
        "ref-list",
        "appendix",
        "preface",
        "part",
        "div",
        "div1",
        "div2",
        "div3",
        "glossary",
        "bibliography",
        "boxed-text",
        "topic",
        "concept",
        "task",
    ]
)
_UNNAMED = {"abstract": "Abstract", "ref-list": "References", "ack": "Acknowledgements"}
_SAME = {
    "p": "p", "para": "p", "simpara": "p", "l": "p", "ab": "p", "list": "ul", "itemizedlist": "ul",
    "orderedlist": "ol", "list-item": "li", "listitem": "li", "item": "li", "ref": "li", "bibl": "p",
    "disp-quote": "blockquote", "blockquote": "blockquote", "preformat": "pre", "programlisting": "pre",
    "screen": "pre", "break": "br", "lb": "br", "table": "table", "thead": "thead", "tbody": "tbody",
    "tr": "tr", "row": "tr", "th": "th", "td": "td", "entry": "td", "cell": "td", "caption": "p",
    "def-list": "ul", "def-item": "li", "aff": "p", "contrib-group": "p", "disp-formula": "p", "fig": "div",
}  # fmt: skip
_SILENT = frozenset(
    [
        "journal-meta",
        "permissions",
        "self-uri",
        "object-id",
        "article-id",
        "contrib-id",
        "tex-math",
        "annotation",
        "pub-date",
        "history",
        "volume",
        "issue",
        "elocation-id",
        "counts",
        "related-article",
        "article-categories",
        "author-notes",
        "funding-group",
        "custom-meta-group",
        "kwd-group",
        "pub-history",
        "revhistory",
        "indexterm",
        "teiHeader",
        "sub-article",
    ]
)  # in the front matter or beside the text
_CITED = ("element-citation", "mixed-citation")


def read_xml(data: bytes) -> Reading:
    """One document. Raises `UnsafeDocument` where it declares entities, `DamagedDocument`, `NoText`."""
    root = parsed(data, "the file")
    name = local(root)
    title = _title(root)
    sections: tuple[Section, ...]
    if name in _ARTICLES and any(local(each) in _PARAGRAPHS for each in root.iter()):
        html = etree.Element("div")
        _convert(root, html, 0)
        sections = outlined(to_markdown(parsed_html(etree.tostring(html, encoding="unicode"))))
    else:
        lines = _paragraphs(root) if name == "wordDocument" else _values(root)
        sections = (Section(clean("\n".join(lines)).strip() + "\n"),)
    if not any(section.text.strip() for section in sections):
        raise NoText("no text in it: XML elements without words")
    return Reading((Document(title, sections, "xml"),))


def _title(root: Any) -> str:
    for wanted in ("article-title", "title"):
        for each in root.iter():
            if local(each) == wanted:
                return plain(clean("".join(each.itertext())))
    return ""


def _convert(source: Any, target: Any, level: int, cited: bool = False) -> None:
    """Append what `source` holds to the HTML element `target`; `level` sections are around it."""
    mixed = _mixed(source)
    say(target, source.text)
    for child in source:
        name = local(child)
        if name and (cited or name not in _SILENT):
            inner = level + (name in _SECTIONS)
            made = _made(child, name, source, target, inner, mixed or cited)
            _convert(child, made, inner, cited or name in _CITED)
            if not mixed:
                say(target, " ")  # values side by side, such as a surname and a given name
        say(target, child.tail)


def _made(child: Any, name: str, source: Any, target: Any, level: int, inline: bool) -> Any:
    if not inline and (
        name in ("title", "head") or (name == "article-title" and local(source) == "title-group")
    ):
        return etree.SubElement(target, f"h{min(6, level + 1)}")
    if name in _SECTIONS:
        made = etree.SubElement(target, "div")
        if name in _UNNAMED and not any(local(each) == "title" for each in child):
            etree.SubElement(made, f"h{min(6, level + 1)}").text = _UNNAMED[name]
        return made
    if name in _SAME:
        made = etree.SubElement(target, _SAME[name])
        for which in ("colspan", "rowspan"):
            if child.get(which):
                made.set(which, child.get(which))
        return made
    holds_blocks = any(local(each) in _SAME or local(each) in _SECTIONS for each in child.iter())
    return etree.SubElement(target, "div" if holds_blocks and not inline else "span")


def _mixed(element: Any) -> bool:
    return any(text and text.strip() for text in (element.text, *(child.tail for child in element)))


def _values(element: Any) -> Iterator[str]:
    """`name: value` lines of data, an empty line between records."""
    children = [child for child in element if local(child)]
    if children and not _mixed(element):
        nested = [child for child in children if len(child)]
        for child in children:
            if len(nested) > 1 and len(child):
                yield ""
            yield from _values(child)
        return
    words = " ".join("".join(element.itertext()).split())
    if "<" in words and ">" in words:  # HTML in a feed's field
        words = " ".join(parsed_html(words).get_text(" ").split())
    words = words or ", ".join(f"{key.rpartition('}')[2]}={value}" for key, value in element.attrib.items())
    if words:
        yield f"{local(element)}: {words}"


def _paragraphs(root: Any) -> Iterator[str]:
    """Word 2003 XML: a paragraph a line."""
    for paragraph in root.iter():
        if local(paragraph) == "p":
            yield "".join(each.text or "" for each in paragraph.iter() if local(each) == "t")
