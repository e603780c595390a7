"""Documents made by hand, byte by byte, so that no binaries lie in the repository."""

import io
import struct
import zipfile


def pdf(*pages: str, title: str = "") -> bytes:
    """A PDF with one line of Latin text per page."""
    return drawn(*(at(20, 100, text) if text else "" for text in pages), title=title)


def at(x: float, y: float, text: str) -> str:
    """PDF operators that write a line of Latin text."""
    return f"BT /F1 12 Tf {x} {y} Td ({text}) Tj ET "


def drawn(*streams: str, title: str = "", bookmarks: tuple[tuple[str, int], ...] = ()) -> bytes:
    """A PDF of pages made of operators; bookmarks are (title, page from 1)."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for operators in streams:
        stream = operators.encode()
        content = len(objects) + 1
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        font = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 400] /Resources %s /Contents %d 0 R >>"
            % (font, content)
        )
        kids.append(b"%d 0 R" % (content + 1))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    if bookmarks:
        first = len(objects) + 2
        last = first + len(bookmarks) - 1
        objects[0] = b"<< /Type /Catalog /Pages 2 0 R /Outlines %d 0 R >>" % (first - 1)
        objects.append(b"<< /Type /Outlines /First %d 0 R /Last %d 0 R >>" % (first, last))
        for number, (name, page) in enumerate(bookmarks, start=first):
            following = b" /Next %d 0 R" % (number + 1) if number < last else b""
            objects.append(
                b"<< /Title (%s) /Parent %d 0 R /Dest [%s /Fit]%s >>"
                % (name.encode(), first - 1, kids[page - 1], following)
            )
    objects.append(b"<< /Title (%s) >>" % title.encode())
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for place in places:
        out.write(b"%010d 00000 n \n" % place)
    out.write(
        b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (len(objects) + 1, len(objects), table)
    )
    return out.getvalue()


_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)


def docx(*paragraphs: str, prolog: str = "", styles: str = "", raw: str = "") -> bytes:
    """A Word document of plain paragraphs; `raw` is XML after them, `styles` the inside of its styles."""
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs) + raw
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", _TYPES)
        archive.writestr("_rels/.rels", _RELATIONS)
        archive.writestr(
            "word/document.xml",
            f'{prolog}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>',
        )
        if styles:
            archive.writestr("word/styles.xml", f'<w:styles xmlns:w="{_WORD}">{styles}</w:styles>')
    return out.getvalue()


def zipped(**members: bytes) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def packed(members: dict[str, str]) -> bytes:
    """A zip archive of text files."""
    return zipped(**{name: content.encode() for name, content in members.items()})


_A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
_P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
_R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
_KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def _shape(text: str, kind: str) -> str:
    return (
        f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr>'
        f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def pptx(*slides: tuple[str, str, str]) -> bytes:
    """A presentation: (title, body, notes) of each slide, and a table of two rows on the first."""
    cells = "<a:tc><a:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></a:txBody></a:tc>"
    rows = "".join(
        f"<a:tr>{''.join(map(cells.format, row))}</a:tr>" for row in (("city", "people"), ("Bonn", "330000"))
    )
    table = f"<p:graphicFrame><a:graphicData><a:tbl>{rows}</a:tbl></a:graphicData></p:graphicFrame>"
    ids = "".join(f'<p:sldId r:id="r{at}"/>' for at in range(len(slides)))
    links = "".join(
        f'<Relationship Id="r{at}" Type="{_KIND}/slide" Target="slides/s{at}.xml"/>'
        for at in range(len(slides))
    )
    members = {
        "ppt/presentation.xml": f"<p:presentation {_P} {_R}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f"<Relationships>{links}</Relationships>",
    }
    for at, (title, body, notes) in enumerate(slides):
        shapes = _shape(title, "title") + _shape(body, "body") + _shape(str(at), "sldNum") + table * (at == 0)
        members[f"ppt/slides/s{at}.xml"] = f"<p:sld {_P} {_A} {_R}><p:spTree>{shapes}</p:spTree></p:sld>"
        members[f"ppt/slides/_rels/s{at}.xml.rels"] = (
            f'<Relationships><Relationship Id="n" Type="{_KIND}/notesSlide" Target="../notes/n{at}.xml"/>'
            "</Relationships>"
        )
        members[f"ppt/notes/n{at}.xml"] = f"<p:notes {_P} {_A}>{_shape(notes, 'body')}</p:notes>"
    return packed(members)


def xlsx(rows: list[list[str | float]], sheet: str = "Sheet", merged: str = "") -> bytes:
    """A workbook of one sheet; `merged` is a range such as A1:B1."""

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f"<c><v>{value}</v></c>"

    body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    merge = f'<mergeCells><mergeCell ref="{merged}"/></mergeCells>' if merged else ""
    links = _RELATIONS.replace("word/document.xml", "worksheets/s1.xml")
    links = links.replace('officeDocument"', 'worksheet"')
    sheets = f'<sheets><sheet name="{sheet}" sheetId="1" r:id="r1"/></sheets>'
    return packed(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": _RELATIONS.replace("word/document.xml", "xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" {_R}>{sheets}</workbook>',
            "xl/_rels/workbook.xml.rels": links,
            "xl/worksheets/s1.xml": f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData>{merge}'
            "</worksheet>",
        }
    )


def odf(body: str, kind: str = "text", title: str = "") -> bytes:
    """An OpenDocument file with this in its body."""
    names = "".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" '
        for name in ("office", "text", "table", "draw", "presentation")
    )
    return packed(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {names}><office:body><office:{kind}>{body}"
            f"</office:{kind}></office:body></office:document-content>",
            "meta.xml": f'<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></m>',
        }
    )


def epub(*chapters: str, title: str = "") -> bytes:
    """A book: the body of each chapter's page; the contents name them `Part 1` and so on."""
    numbers = range(1, len(chapters) + 1)
    items = "".join(f'<item id="c{at}" href="c{at}.xhtml"/>' for at in numbers)
    spine = "".join(f'<itemref idref="c{at}"/>' for at in numbers)
    points = "".join(
        f'<navPoint><navLabel><text>Part {at}</text></navLabel><content src="c{at}.xhtml#x"/></navPoint>'
        for at in numbers
    )
    return packed(
        {
            "META-INF/container.xml": '<container><rootfile full-path="O/p.opf"/></container>',
            "O/p.opf": f"<package><metadata><title>{title}</title></metadata><manifest>{items}"
            '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/></manifest>'
            f"<spine>{spine}</spine></package>",
            "O/toc.ncx": f"<ncx><navMap>{points}</navMap></ncx>",
            **{
                f"O/c{at}.xhtml": f"<?xml version='1.0'?><html><body>{body}</body></html>"
                for at, body in enumerate(chapters, start=1)
            },
        }
    )


_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def ole(streams: dict[str, bytes]) -> bytes:
    """A compound file (the container of .doc and .xls) with at most three streams."""
    padded = {
        name: content.ljust(4096, b"\0") for name, content in streams.items()
    }  # none in the mini stream
    fat, body, entries, at = [_FAT, _END], [], [], 2
    for name, content in padded.items():
        many = -(-len(content) // 512)
        entries.append(_entry(name, 2, at, len(content)))
        fat += [*range(at + 1, at + many), _END]
        body.append(content.ljust(512 * many, b"\0"))
        at += many
    root = _entry("Root Entry", 5, _END, 0, child=1)
    linked = [entry[:72] + struct.pack("<I", 2 + number if number < len(entries) - 1 else _FREE) + entry[76:]
              for number, entry in enumerate(entries)]  # fmt: skip
    directory = b"".join([root, *linked]).ljust(512, b"\0")
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH6xIIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, _END, 0, _END, 0, 0)
    return (
        header.ljust(512, b"\xff")
        + struct.pack(f"<{len(fat)}I", *fat).ljust(512, b"\xff")
        + directory
        + b"".join(body)
    )


def _entry(name: str, kind: int, start: int, size: int, child: int = _FREE) -> bytes:
    wide = name.encode("utf-16-le") + b"\0\0"
    head = wide.ljust(64, b"\0") + struct.pack("<HBBIII", len(wide), kind, 1, _FREE, _FREE, child)
    return head + bytes(36) + struct.pack("<IQ", start, size)


def doc(latin: str, wide: str = "", flags: int = 0, version: int = 0xC1) -> bytes:
    """A Word 97 document: one piece of one byte a character, then one of two."""
    main = bytearray(0x400)
    struct.pack_into("<HH", main, 0, 0xA5EC, version)
    struct.pack_into("<H", main, 0x0A, flags)
    struct.pack_into("<I", main, 0x4C, len(latin) + len(wide))
    first, second = len(main), len(main) + len(latin)
    main += latin.encode("cp1252") + wide.encode("utf-16-le")
    ends = struct.pack("<3I", 0, len(latin), len(latin) + len(wide))
    pieces = struct.pack("<HIHHIH", 0, 2 * first | 1 << 30, 0, 0, second, 0)
    clx = b"\2" + struct.pack("<I", len(ends + pieces)) + ends + pieces
    struct.pack_into("<II", main, 0x1A2, 0, len(clx))
    return ole({"WordDocument": bytes(main), "0Table": clx})
