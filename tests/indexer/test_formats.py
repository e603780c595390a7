"""What each format becomes: its title, its headings and pages, the header of its tables."""

import pytest

from indexer.errors import ProtectedDocument, Unreadable, UnsafeDocument, UnsupportedFormat
from indexer.reading.reader import read
from tests.indexer.documents import doc, docx, epub, odf, packed, pptx, xlsx, zipped


def only(data: bytes, name: str = "x"):
    [document] = read(data, name).documents
    return document


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>"


def test_a_word_document_keeps_headings_by_style_tables_and_lists():
    styles = (
        '<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="My own"/><w:basedOn w:val="H1"/></w:style>'
    )
    heading = '<w:p><w:pPr><w:pStyle w:val="{}"/></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>'
    level = '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr>'
    item = f"<w:p><w:pPr>{level}</w:pPr><w:r><w:t>i</w:t></w:r></w:p>"
    rows = (
        cell("a") + cell("b"),
        cell("1", '<w:vMerge w:val="restart"/>') + cell("2"),
        cell("", "<w:vMerge/>") + cell("3"),
        cell("wide", '<w:gridSpan w:val="2"/>'),
    )
    table = "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in rows) + "</w:tbl>"
    run = "<w:r><w:t>{}</w:t></w:r>"
    deleted = f"<w:p><w:del>{run.format('old')}</w:del><w:ins>{run.format('new')}</w:ins></w:p>"
    raw = heading.format("H1", "Start") + heading.format("Mine", "Next") + item + table + deleted
    document = only(docx(styles=styles, raw=raw))
    assert document.title == "Start"
    assert document.text == (
        "# Start\n\n# Next\n\n  - i\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 1 | 3 |\n| wide | wide |\n\nnew\n"
    )
    assert {section.headings for section in document.sections} == {("Start",), ("Next",)}


def test_an_old_word_document_is_its_main_text():
    field = "\x13 HYPERLINK x \x14here\x15"
    document = only(doc(f"One \u2013 {field}.\ra\x07b\x07\x07", "Größe \u4e2d\r"))
    assert (document.kind, document.text) == ("doc", "One \u2013 here.\na | b\nGröße \u4e2d\n")
    with pytest.raises(ProtectedDocument, match="without a password"):
        read(doc("secret", flags=0x0100), "x.doc")
    with pytest.raises(UnsupportedFormat, match="before 1997: save it as"):
        read(doc("old", version=0x65), "x.doc")


def test_slides_are_pages_with_their_title_notes_and_tables():
    document = only(pptx(("Plan", "First we count", "say hello"), ("End", "Thanks", "")))
    assert (document.kind, document.title) == ("pptx", "Plan")
    assert {(section.page, section.headings) for section in document.sections} == {
        (1, ("Plan",)),
        (2, ("End",)),
    }
    assert "First we count" in document.text
    assert "Notes: say hello" in document.text
    [table] = [section for section in document.sections if section.lead]
    assert table.lead == "| city | people |\n| --- | --- |\n"
    assert "\n0\n" not in document.text  # the slide's number


def test_a_sheet_is_a_table_with_its_header_as_lead():
    data = xlsx([["Sales 2024"], ["city", "sold"], ["Bonn", 12.0], ["Köln", 7.5]], sheet="North")
    document = only(data)
    assert document.kind == "xlsx"
    assert {section.headings for section in document.sections} == {("North",)}
    [table] = [section for section in document.sections if section.lead]
    assert table.lead == "| city | sold |\n| --- | --- |\n"
    assert table.text == table.lead + "| Bonn | 12 |\n| Köln | 7.5 |\n\n"
    assert "Sales 2024\n" in document.text


def test_merged_cells_of_a_sheet_are_said_in_each_column():
    rows = [["", "2024", ""], ["city", "in", "out"], ["Bonn", 1.0, 2.0]]
    [table] = [section for section in only(xlsx(rows, merged="B1:C1")).sections if section.lead]
    assert table.lead.startswith("| city |")


def test_an_open_document_keeps_headings_lists_and_tables():
    body = (
        '<text:h text:outline-level="1">Start</text:h><text:p>One<text:s text:c="2"/>two</text:p>'
        '<text:h text:outline-level="2">Deep</text:h><text:list><text:list-item><text:p>item</text:p>'
        "</text:list-item></text:list><table:table><table:table-row><table:table-cell><text:p>a</text:p>"
        "</table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row>"
        "<table:table-row><table:table-cell><text:p>1</text:p></table:table-cell><table:table-cell>"
        "<text:p>2</text:p></table:table-cell></table:table-row></table:table>"
    )
    document = only(odf(body, title="Named"))
    assert (document.kind, document.title) == ("odt", "Named")
    assert [section.headings for section in document.sections][:2] == [("Start",), ("Start", "Deep")]
    assert "- item" in document.text
    assert [section.lead for section in document.sections if section.lead] == ["| a | b |\n| --- | --- |\n"]


def test_pages_of_an_open_document_presentation_are_counted():
    body = "".join(
        f"<draw:page><draw:frame><text:p>slide {at}</text:p></draw:frame></draw:page>" for at in (1, 2)
    )
    document = only(odf(body, "presentation"))
    assert [(section.page, section.text.strip()) for section in document.sections] == [
        (1, "slide 1"),
        (2, "slide 2"),
    ]


def test_a_book_has_its_chapters_in_the_order_of_the_spine():
    document = only(epub("<h1>Dawn</h1><p>Light.</p>", "<p>No heading here.</p>", title="Days"))
    assert (document.kind, document.title) == ("epub", "Days")
    assert [section.headings for section in document.sections] == [("Dawn",), ("Part 2",)]


MAIL = b"""From: Ada <ada@example.org>
To: bob@example.org
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Message-ID: <m1@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: multipart/alternative; boundary=A

--A
Content-Type: text/plain; charset=utf-8

The plain body.
--A
Content-Type: text/html

<p>The html body.</p>
--A--
--B
Content-Type: text/csv
Content-Disposition: attachment; filename=people.csv

name,age
Ada,36
--B
Content-Type: image/png
Content-Disposition: attachment; filename=logo.png
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--B--
"""


def test_a_message_has_its_headers_one_body_and_its_attachments():
    reading = read(MAIL, "x.eml")
    [document] = reading.documents
    assert (document.kind, document.title, reading.warnings) == ("mail", "Grüße", ())
    assert document.text.startswith("From: Ada <ada@example.org>\nTo: bob@example.org\nSubject: Grüße\n\n")
    assert "The plain body." in document.text
    assert "html body" not in document.text
    assert "name: Ada, age: 36" in document.text
    assert ("Attachment: people.csv",) in {section.headings for section in document.sections}
    assert "Attachment: logo.png" in document.text


def test_a_mailbox_is_a_document_per_message():
    second = MAIL.replace(b"m1@", b"m2@").replace(b"plain body.", b"plain body.\n\n>From me")
    box = b"From a@b Mon Jul 20 01:01:07 2015\n" + MAIL + b"\nFrom a@b Mon Jul 20 02:01:07 2015\n" + second
    reading = read(box, "x.mbox")
    assert [document.external_id for document in reading.documents] == ["m1@example.org", "m2@example.org"]
    assert "\nFrom me" in reading.documents[1].text


def test_an_unknown_charset_of_a_message_is_guessed_with_a_warning():
    data = b'Subject: s\nFrom: a@b\nTo: c@d\nContent-Type: text/plain; charset="no-such"\n\nhello\n'
    reading = read(data, "x.eml")
    assert "hello" in reading.documents[0].text
    assert "no-such" in reading.warnings[0]


ARTICLE = b"""<?xml version="1.0"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "JATS.dtd">
<article><front><journal-meta><issn>1</issn></journal-meta><article-meta><title-group>
<article-title>Of <italic>mice</italic></article-title></title-group><contrib-group><contrib><name>
<surname>Wolf</surname><given-names>Gernot</given-names></name></contrib></contrib-group>
<abstract><p>Short.</p></abstract></article-meta></front>
<body><sec><title>Methods</title><p>We looked.</p><sec><title>Mice</title><p>Small <xref>1</xref> ones.</p>
<table-wrap><label>Table 1</label><table><thead><tr><th>n</th><th>m</th></tr></thead><tbody><tr><td>1</td>
<td>2</td></tr></tbody></table></table-wrap></sec></sec></body>
<back><ref-list><ref><element-citation><source>Nature</source><year>1999</year></element-citation></ref>
</ref-list></back></article>"""


def test_an_article_in_xml_keeps_sections_tables_and_references():
    document = only(ARTICLE)
    assert (document.kind, document.title) == ("xml", "Of mice")
    paths = [section.headings for section in document.sections]
    assert ("Of mice", "Methods", "Mice") in paths
    assert ("Of mice", "Abstract") in paths
    assert ("Of mice", "References") in paths
    assert "Wolf Gernot" in " ".join(document.text.split())
    assert "Nature 1999" in " ".join(document.text.split())
    assert any(section.lead == "| n | m |\n| --- | --- |\n" for section in document.sections)


def test_other_xml_is_the_values_it_names():
    one, two = b"<title>One</title><n>1</n>", b"<title>Two</title><link href='u'/>"
    data = b"<feed><entry>" + one + b"</entry><entry>" + two + b"</entry></feed>"
    assert only(data).text == "title: One\nn: 1\n\ntitle: Two\nlink: href=u\n"


def test_rtf_is_its_words_and_title():
    document = only(rb"{\rtf1\ansi{\info{\title Minutes}}{\b We} met.\par Then\'e9 left.}")
    assert (document.kind, document.title, document.text) == ("rtf", "Minutes", "We met.\nThené left.\n")


def test_a_json_array_of_objects_is_rows_and_an_object_is_one_document():
    rows = read(b'[\n{"id": 1, "text": "one"},\n{"id": 2, "text": "two"}\n]', "x.json").documents
    assert [(row.external_id, row.text) for row in rows] == [("1", "one"), ("2", "two")]
    document = only(b'{\n "title": "T",\n "server": {"port": 80, "names": ["a", "b"]}\n}', "x.json")
    assert document.text == "title: T\nserver.port: 80\nserver.names: a, b\n\n"
    assert [section.headings for section in document.sections] == [(), ("server",)]


def test_source_code_is_known_by_its_name_or_its_first_line():
    assert only(b"def f():\n    return 1\n", "f.py").kind == "python"
    assert only(b"#!/usr/bin/env python3\nprint(1)\n", "run").kind == "python"


def test_files_of_an_archive_are_documents_under_their_path_and_bad_ones_are_named():
    reading = read(packed({"a/one.txt": "first", "two.md": "# Head\n", "bad.gz": "\x1f\x8b\x08"}), "x.zip")
    assert [(document.external_id, document.title) for document in reading.documents] == [
        ("a/one.txt", "one.txt"),
        ("two.md", "Head"),
    ]
    [error] = reading.errors
    assert error.startswith("bad.gz: ")


def test_archives_in_archives_end_somewhere():
    data = packed({"a.txt": "deep"})
    for _ in range(4):
        data = zipped(**{"in.zip": data})
    with pytest.raises(UnsupportedFormat, match="packed too deep"):
        read(data, "x.zip")


def test_a_name_that_contradicts_the_content_is_warned_about():
    assert "its name ends in .txt, its content is XML" in read(ARTICLE, "x.txt").warnings[0]
    assert read(ARTICLE, "x.nxml").warnings == ()


@pytest.mark.parametrize(
    "data",
    [
        pptx(("a", "b", "c")).replace(b"ppt/notes", b"ppt/notez"),
        odf("<text:p>" * 300 + "x" + "</text:p>" * 300),
        b"<a>" * 3000 + b"x" + b"</a>" * 3000,
    ],
    ids=["a missing part", "deep ODT", "deep XML"],
)
def test_what_is_damaged_or_too_deep_is_an_error_with_a_name(data):
    with pytest.raises(Unreadable):
        read(data, "x")


def test_entities_in_any_part_of_a_container_are_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    with pytest.raises(UnsafeDocument):
        read(docx("x", prolog=bomb), "bomb.docx")
    with pytest.raises(UnsafeDocument):
        read(packed({"ppt/presentation.xml": bomb + "<p>&a;</p>"}), "bomb.pptx")


def test_the_site_around_a_page_is_left_out():
    page = (
        "<html><body><nav>Home Shop About</nav><div class='breadcrumbs'>a / b</div><main><header>"
        f"<h1>Ducks</h1></header><p>{'Ducks swim on ponds and lakes. ' * 20}</p>"
        "<aside>Note: they quack.</aside></main>"
        "<footer>Imprint</footer></body></html>"
    )
    document = only(page.encode(), "x.html")
    assert document.text.startswith("# Ducks\n\nDucks swim")
    assert "quack" in document.text
    assert not {"Home", "a / b", "Imprint"} & set(document.text.split("\n"))


def test_a_page_of_nothing_but_links_keeps_them():
    assert "Shop" in only(b"<html><body><nav>Home Shop About</nav></body></html>", "x.html").text
