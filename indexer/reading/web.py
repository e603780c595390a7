"""HTML to Markdown: structure and link targets stay; scripts, pictures and the site around a page go."""

import re
from typing import Any

from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter

from indexer.errors import UnsafeDocument
from indexer.reading.boilerplate import keep_content
from indexer.reading.decoding import clean, decode
from indexer.reading.outline import outlined
from indexer.reading.outline import title as first_heading
from indexer.records import Document

_TOUCHED = [  # taken out, but for pictures, which leave what they say, and rows with merged cells
    "script", "style", "noscript", "template", "svg", "iframe", "object", "head", "annotation", "img", "tr",
]  # fmt: skip
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*>")
_DEEPEST = 300
_WIDEST_SPAN = 32  # repeated cells; a page may claim any number
_BLANK = re.compile(r"[ \t]+\n|\n{3,}")


def read_html(data: bytes) -> Document:
    """The page's content, in sections by its headings."""
    soup = parsed_html(decode(data))
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    keep_content(soup)
    sections = outlined(to_markdown(soup))
    return Document(clean(title) or first_heading(sections), sections, "html")


def parsed_html(text: str) -> BeautifulSoup:
    """The page as a tree, by a parser that mends anything; XHTML is read as HTML.

    Raises `UnsafeDocument` when it is nested deeper than any page.
    """
    soup = BeautifulSoup(_DECLARATION.sub("", text[:1000]) + text[1000:], "lxml")
    depths = {id(soup): 0}
    for tag in soup.find_all(True):
        depths[id(tag)] = depth = depths[id(tag.parent)] + 1
        if depth > _DEEPEST:
            raise UnsafeDocument(f"HTML nested more than {_DEEPEST} deep")
    return soup


def to_markdown(soup: BeautifulSoup) -> str:
    """Markdown of a parsed page; merged cells are repeated, so that each row tells all of itself."""
    rows: dict[int, list[Tag]] = {}  # of each table, without those of tables inside it
    for tag in soup.find_all(_TOUCHED):
        if tag.decomposed:
            continue
        if tag.name == "img":
            tag.replace_with(str(tag.get("alt") or ""))
        elif tag.name == "tr":
            rows.setdefault(id(tag.find_parent("table")), []).append(tag)
        elif tag.name == "annotation" and tag.find_parent("math") is None:
            continue
        else:
            tag.decompose()
    for some in rows.values():
        _spread(soup, some)
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        table_infer_header=True,
    )
    text = clean(str(converter.convert_soup(soup)))
    return _BLANK.sub(lambda found: "\n\n" if found[0].startswith("\n") else "\n", text).strip() + "\n"


def _spread(soup: BeautifulSoup, rows: list[Tag]) -> None:
    below: dict[int, list[Any]] = {}  # column -> [rows still to fill, cell]
    for row in rows:
        column = 0
        for cell in [*row.find_all(["td", "th"], recursive=False), None]:
            while below.get(column, [0])[0] > 0:
                below[column][0] -= 1
                copy = _copy(soup, below[column][1])
                row.append(copy) if cell is None else cell.insert_before(copy)
                column += 1
            if cell is None:
                break
            width, height = _span(cell, "colspan"), _span(cell, "rowspan")
            for extra in range(width):
                if height > 1:
                    below[column + extra] = [height - 1, cell]
                if extra:
                    cell.insert_after(_copy(soup, cell))
            column += width


def _span(cell: Tag, which: str) -> int:
    value = str(cell.attrs.pop(which, "1"))
    return max(1, min(_WIDEST_SPAN, int(value))) if value.isdecimal() else 1


def _copy(soup: BeautifulSoup, cell: Tag) -> Tag:
    copy = soup.new_tag(cell.name)
    copy.string = cell.get_text(" ", strip=True)
    return copy
