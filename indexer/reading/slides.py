"""PPTX to text: a slide is a page, its title a heading, its notes come after it."""

import zipfile
from collections.abc import Iterator
from typing import Any

from indexer.errors import DamagedDocument
from indexer.reading.archives import local, member, open_archive, parsed, related, relations
from indexer.reading.decoding import clean
from indexer.reading.grid import markdown_table
from indexer.reading.office import core_title
from indexer.reading.outline import outlined
from indexer.records import Document, Reading, Section

_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def read_pptx(data: bytes) -> Reading:
    """Slides in the order they are shown; broken parts of a slide are named and the rest is read."""
    sections: list[Section] = []
    warnings: list[str] = []
    errors: list[str] = []
    with open_archive(data) as archive:
        for number, path in enumerate(_slides(archive), start=1):
            try:
                sections += _slide(archive, path, number, warnings)
            except DamagedDocument as error:
                errors.append(f"slide {number}: {error}")
        title = core_title(archive)
    if errors and not sections:
        raise DamagedDocument(f"damaged PPTX: {errors[0]}")
    if title in ("", "PowerPoint Presentation"):  # what PowerPoint calls what nobody named
        title = next((section.headings[0] for section in sections if section.headings), "")
    return Reading((Document(title, tuple(sections), "pptx"),), tuple(errors), tuple(warnings))


def _slides(archive: zipfile.ZipFile) -> list[str]:
    root = parsed(member(archive, "ppt/presentation.xml"), "ppt/presentation.xml")
    targets = relations(archive, "ppt/presentation.xml")
    wanted = [each.get(f"{_R}id") for each in root.iter() if local(each) == "sldId"]
    return [targets[one] for one in wanted if one in targets]


def _slide(archive: zipfile.ZipFile, path: str, number: int, warnings: list[str]) -> Iterator[Section]:
    root = parsed(member(archive, path), path)
    targets = relations(archive, path)
    drawings = related(archive, path, "chart", "diagramData")
    title, parts = "", []
    for shape in root.iter():
        kind = local(shape)
        if kind == "sp" and _placeholder(shape) not in _FURNITURE:
            text = _text(shape)
            if _placeholder(shape) in _TITLES and not title:
                title = " ".join(text.split())
            elif text.strip():
                parts.append(text)
        elif kind == "tbl":
            rows = [
                [_text(cell) for cell in row if local(cell) == "tc"] for row in shape if local(row) == "tr"
            ]
            if any(any(map(str.strip, row)) for row in rows):
                parts.append(markdown_table(rows).rstrip("\n"))
        elif kind == "pic":
            blip = next((each for each in shape.iter() if local(each) == "blip"), None)
            if blip is None or (blip.get(f"{_R}embed") or blip.get(f"{_R}link")) not in _all(targets, shape):
                warnings.append(f"slide {number}: a picture in it is damaged; its text was read")
        elif kind == "graphicData" and not any(local(each) == "tbl" for each in shape.iter()):
            parts += [text for text in [_drawing(archive, shape, drawings)] if text]
    for target in related(archive, path, "notesSlide").values():
        notes = parsed(member(archive, target), target)
        shapes = [each for each in notes.iter() if local(each) == "sp" and _placeholder(each) == "body"]
        said = "\n".join(map(_text, shapes)).strip()
        parts += [f"Notes: {said}"] if said else []
    text = "\n\n".join([f"# {title}"] * bool(title) + parts)
    yield from outlined(clean(text) + "\n\n", number)


def _all(targets: dict[str, str], shape: Any) -> set[str]:
    linked = {each.get(f"{_R}link") for each in shape.iter() if each.get(f"{_R}link")}
    return {*targets, *linked}


def _placeholder(shape: Any) -> str:
    for each in shape.iter():
        if local(each) == "ph":
            return str(each.get("type", "body"))
    return ""


def _text(shape: Any) -> str:
    """Paragraphs on lines of their own, bullets of deeper levels indented."""
    lines = []
    for paragraph in shape.iter():
        if local(paragraph) != "p":
            continue
        words = "".join(
            (each.text or "") if local(each) == "t" else "\n"
            for each in paragraph.iter()
            if local(each) in ("t", "br")
        )
        properties = next((each for each in paragraph if local(each) == "pPr"), None)
        level = properties.get("lvl", "0") if properties is not None else "0"
        lines.append(f"{'  ' * int(level)}- {words}" if level in "12345678" and words.strip() else words)
    return "\n".join(lines).strip("\n")


def _drawing(archive: zipfile.ZipFile, shape: Any, drawings: dict[str, str]) -> str:
    """The words of a chart or SmartArt, which stand in a file of their own."""
    lines: list[str] = []
    for each in shape.iter():
        wanted = each.get(f"{_R}id") or each.get(f"{_R}dm")
        if wanted in drawings:
            root = parsed(member(archive, drawings[wanted]), drawings[wanted], mend=True)
            lines += [
                " ".join((one.text or "").split())
                for one in root.iter()
                if local(one) in ("t", "v") and one.text
            ]
    return ", ".join(dict.fromkeys(line for line in lines if line))
