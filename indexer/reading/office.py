"""DOCX to Markdown: headings by their style, lists, tables, notes; what was deleted stays away."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from indexer.errors import DamagedDocument
from indexer.reading.archives import local, member, open_archive, parsed, relations
from indexer.reading.decoding import clean
from indexer.reading.grid import markdown_table
from indexer.reading.outline import outlined
from indexer.reading.outline import title as first_heading
from indexer.records import Document, Reading

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MAIN = "word/document.xml"
_STYLE_NAME = re.compile(r"heading ([1-9])", re.I)
_WIDEST_SPAN = 32  # repeated cells; a file may claim any number
_MOST_STYLES = 50  # one based on another
_SILENT = frozenset(
    (
        "del",
        "moveFrom",
        "Fallback",
        "instrText",
        "delText",
        "pPr",
        "rPr",
        "tblPr",
        "tblGrid",
        "sectPr",
        "pict",
    )
)


@dataclass
class _Styles:
    """What paragraphs look like, from the files beside the text."""

    levels: dict[str, int] = field(default_factory=dict)  # style -> heading level, from 1
    lists: dict[str, tuple[str, int]] = field(default_factory=dict)  # style -> list and its level, from 0
    bullets: dict[tuple[str, int], bool] = field(default_factory=dict)  # list and level -> not numbered
    links: dict[str, str] = field(default_factory=dict)  # relation -> address
    counters: dict[tuple[str, int], int] = field(default_factory=dict)


def read_docx(data: bytes) -> Reading:
    """The document in sections by its headings: a DOCX file does not know where its pages end."""
    errors: list[str] = []
    with open_archive(data) as archive:
        names = set(archive.namelist())
        root = parsed(member(archive, _MAIN), _MAIN)
        styles = _Styles()
        for path, learn in (("word/styles.xml", _learn_styles), ("word/numbering.xml", _learn_lists)):
            if path in names:
                learn(parsed(member(archive, path), path, mend=True), styles)
        styles.links = relations(archive, _MAIN, external=True)
        blocks = list(_blocks(root, styles))
        for path, mark in (("word/footnotes.xml", ""), ("word/endnotes.xml", "e")):
            if path in names:
                try:
                    blocks += _notes(parsed(member(archive, path), path), mark, styles)
                except DamagedDocument as error:
                    errors.append(str(error))
        title = core_title(archive)
    sections = outlined(clean("\n\n".join(blocks)) + "\n")
    return Reading((Document(title or first_heading(sections), sections, "docx"),), tuple(errors))


def core_title(archive: zipfile.ZipFile) -> str:
    """The title in an Office file's properties, or nothing."""
    path = "docProps/core.xml"
    if path not in archive.namelist():
        return ""
    try:
        root = parsed(member(archive, path), path, mend=True)
    except DamagedDocument:
        return ""  # the text is there without it
    return next((clean(each.text or "").strip() for each in root.iter() if local(each) == "title"), "")


def _learn_styles(root: Any, styles: _Styles) -> None:
    based: dict[str, str] = {}
    own: dict[str, int] = {}
    listed: dict[str, tuple[str, int]] = {}
    for style in root.iter(f"{_W}style"):
        name = style.get(f"{_W}styleId", "")
        based[name] = _value(style, "basedOn")
        heading = _STYLE_NAME.fullmatch(_value(style, "name"))
        outline = next((_value(each, "outlineLvl") for each in style.iter(f"{_W}pPr")), "")
        if heading or (outline in "012345678" and outline):
            own[name] = int(heading[1]) if heading else int(outline) + 1
        elif _value(style, "name").lower() == "title":
            own[name] = 1
        for properties in style.iter(f"{_W}numPr"):
            listed[name] = (_value(properties, "numId"), _level(properties))
    for name in based:
        for known, found in ((own, styles.levels), (listed, styles.lists)):
            at = name
            for _ in range(_MOST_STYLES):
                if at in known:
                    found[name] = known[at]  # type: ignore[assignment]
                    break
                at = based.get(at, "")


def _learn_lists(root: Any, styles: _Styles) -> None:
    shapes: dict[str, dict[int, bool]] = {}
    for shape in root.iter(f"{_W}abstractNum"):
        levels = {
            _number(each.get(f"{_W}ilvl")): _value(each, "numFmt") == "bullet"
            for each in shape.iter(f"{_W}lvl")
        }
        shapes[shape.get(f"{_W}abstractNumId", "")] = levels
    for one in root.iter(f"{_W}num"):
        for level, bullet in shapes.get(_value(one, "abstractNumId"), {}).items():
            styles.bullets[one.get(f"{_W}numId", ""), level] = bullet


def _blocks(parent: Any, styles: _Styles) -> Iterator[str]:
    """Paragraphs and tables below an element, as Markdown."""
    for child in parent:
        name = local(child)
        if name == "p":
            yield from _paragraph(child, styles)
        elif name == "tbl":
            yield from _table(child, styles)
        elif name and name not in _SILENT:
            yield from _blocks(child, styles)


def _paragraph(paragraph: Any, styles: _Styles) -> Iterator[str]:
    boxes: list[Any] = []
    text = "".join(_runs(paragraph, styles, boxes)).strip()
    if text:
        properties = next((each for each in paragraph if local(each) == "pPr"), None)
        yield _marked(text, properties, styles)
    for box in boxes:
        yield from _blocks(box, styles)


def _marked(text: str, properties: Any, styles: _Styles) -> str:
    """The text as heading, list item or plain."""
    if properties is None:
        return text
    style = _value(properties, "pStyle")
    outline = _value(properties, "outlineLvl")
    level = (
        int(outline) + 1
        if outline and outline in "012345678"
        else 0
        if outline
        else styles.levels.get(style, 0)
    )
    if level:
        return f"{'#' * min(level, 6)} {' '.join(text.split())}"
    numbering = next(iter(properties.iter(f"{_W}numPr")), None)
    key = (
        (_value(numbering, "numId"), _level(numbering)) if numbering is not None else styles.lists.get(style)
    )
    if not key or key[0] in ("", "0"):
        return text
    indent = "  " * min(key[1], 8)
    if styles.bullets.get(key, True):
        return f"{indent}- {text}"
    for other in [one for one in styles.counters if one[0] == key[0] and one[1] > key[1]]:
        del styles.counters[other]
    styles.counters[key] = styles.counters.get(key, 0) + 1
    return f"{indent}{styles.counters[key]}. {text}"


def _runs(parent: Any, styles: _Styles, boxes: list[Any]) -> Iterator[str]:
    """The words below a paragraph; text boxes that hang on it are put aside."""
    for child in parent:
        name = local(child)
        if name == "t":
            yield child.text or ""
        elif name in ("tab", "ptab"):
            yield "\t"
        elif name in ("br", "cr"):
            yield "\n"
        elif name in ("noBreakHyphen", "softHyphen"):
            yield "-" if name == "noBreakHyphen" else ""
        elif name in ("footnoteReference", "endnoteReference"):
            yield f"[^{'e' * name.startswith('e')}{child.get(f'{_W}id', '')}]"
        elif name == "txbxContent":
            boxes.append(child)
        elif name == "hyperlink":
            words = "".join(_runs(child, styles, boxes))
            address = styles.links.get(child.get(f"{_R}id", ""), "")
            yield f"[{words}]({address})" if address and words.strip() else words
        elif name and name not in _SILENT:
            yield from _runs(child, styles, boxes)


def _table(table: Any, styles: _Styles) -> Iterator[str]:
    rows: list[list[str]] = []
    headers = 0
    for row in _children(table, "tr"):
        cells: list[str] = []
        for cell in _children(row, "tc"):
            properties = next((each for each in cell if local(each) == "tcPr"), ())
            merge = next((each for each in properties if local(each) == "vMerge"), None)
            width = max(1, min(_WIDEST_SPAN, _number(_value(properties, "gridSpan"), 1)))
            if (
                merge is not None
                and merge.get(f"{_W}val") != "restart"
                and rows
                and len(cells) < len(rows[-1])
            ):
                text = rows[-1][len(cells)]
            else:
                text = "\n".join(_blocks(cell, styles))
            cells += [text] * width
        if any(local(each) == "tblHeader" for each in row.iter(f"{_W}tblHeader")) and headers == len(rows):
            headers += 1
        rows.append(cells)
    rows = [row for row in rows if any(map(str.strip, row))]
    if not rows:
        return
    if max(map(len, rows)) == 1:  # a frame around text
        yield from (row[0] for row in rows)
    else:
        yield markdown_table(rows, min(max(1, headers), len(rows))).rstrip("\n")


def _children(parent: Any, wanted: str) -> Iterator[Any]:
    """Rows of a table or cells of a row, through what may be wrapped around them."""
    for child in parent:
        if local(child) == wanted:
            yield child
        elif local(child) in ("sdt", "sdtContent", "ins", "customXml", "smartTag"):
            yield from _children(child, wanted)


def _notes(root: Any, mark: str, styles: _Styles) -> Iterator[str]:
    for note in root:
        if note.get(f"{_W}type") in ("separator", "continuationSeparator", "continuationNotice"):
            continue
        text = "\n".join(_blocks(note, styles)).strip()
        if text:
            yield f"[^{mark}{note.get(f'{_W}id', '')}]: {text}"


def _value(element: Any, name: str) -> str:
    """The `w:val` of the child of that name, or nothing."""
    return next((str(each.get(f"{_W}val", "")) for each in element if local(each) == name), "")


def _level(numbering: Any) -> int:
    return min(8, _number(_value(numbering, "ilvl")))


def _number(value: str | None, otherwise: int = 0) -> int:
    return int(value) if value and value.isdecimal() and len(value) < 9 else otherwise
