"""Bytes to documents, by content and not by name."""

import pytest

from indexer.errors import DamagedDocument, NoText, ProtectedDocument, UnsafeDocument, UnsupportedFormat
from indexer.reading.reader import read
from tests.indexer.documents import docx, pdf, zipped

PROSE = "Die Straße führt über den Fluß, und alle Vögel sind schon da. " * 8
RUSSIAN = "Все люди рождаются свободными и равными в своем достоинстве и правах. " * 8
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。" * 6
CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。" * 6
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PROSE, "utf-8"),
        (PROSE, "utf-8-sig"),
        (PROSE, "utf-16"),
        (PROSE, "utf-16-le"),
        (PROSE, "utf-32"),
        (PROSE, "utf-32-be"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "hz"),
        (CHINESE, "gb18030"),
    ],
)
def test_text_is_read_whatever_its_encoding(text, encoding):
    [document] = read(text.encode(encoding), "page.txt").documents
    assert document.text.strip() == text.strip()


def test_a_page_that_declares_the_wrong_encoding_is_still_read():
    page = f'<html><head><meta charset="utf-8"></head><body><p>{RUSSIAN}</p></body></html>'
    [document] = read(page.encode("cp1251"), "page.html").documents
    assert RUSSIAN.strip() in document.text


def test_pages_of_a_pdf_are_sections_with_numbers():
    [document] = read(pdf("first page", "second page", title="Two"), "x").documents
    assert [(section.page, section.text.strip()) for section in document.sections] == [
        (1, "first page"),
        (2, "second page"),
    ]
    assert document.title == "Two"


def test_a_scan_says_that_it_has_no_text_layer():
    with pytest.raises(NoText, match="no text layer"):
        read(pdf(""), "scan.pdf")


def test_a_pdf_whose_object_table_is_wrong_is_read_with_a_warning():
    assert read(pdf("hello there"), "fine.pdf").warnings == ()
    moved = pdf("hello there").replace(b"%PDF-1.4\n", b"%PDF-1.4\n%comment\n")
    reading = read(moved, "moved.pdf")
    assert "hello there" in reading.documents[0].text
    assert "damaged" in reading.warnings[0]


def test_a_word_document_is_markdown():
    [document] = read(docx("First.", "Second."), "x").documents
    assert (document.kind, document.text) == ("docx", "First.\n\nSecond.\n")


def test_a_word_document_with_entities_is_refused():
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    with pytest.raises(UnsafeDocument):
        read(docx("x", prolog=bomb), "bomb.docx")


def test_html_keeps_structure_and_drops_scripts():
    page = b"<!doctype html><title>T</title><script>evil()</script><h2>Head</h2><p>Body <b>bold</b></p>"
    [document] = read(page, "x").documents
    assert (document.title, document.text) == ("T", "## Head\n\nBody **bold**\n")


def test_merged_cells_are_repeated_in_every_row():
    page = b"<html><table><tr><td rowspan=2>both</td><td>a</td></tr><tr><td>b</td></tr></table></html>"
    [document] = read(page, "x").documents
    assert document.text.count("both") == 2


def test_a_csv_row_tells_its_header():
    reading = read(b"name,age\nAda,36\nBob,40\n", "people.csv")
    assert reading.documents[0].text == "name: Ada, age: 36\nname: Bob, age: 40\n"
    assert reading.warnings == ()


def test_uneven_rows_of_a_csv_are_warned_about():
    reading = read(b"a,b\n1,2,3\n4,5\n", "odd.csv")
    assert "1 of 2 rows" in reading.warnings[0]


def test_rows_of_jsonl_are_documents_and_bad_ones_are_named():
    reading = read(b'{"id": 7, "title": "T", "text": "x", "year": 1999}\nnonsense\n{"id": 8}\n', "r.jsonl")
    [document] = reading.documents
    assert (document.external_id, document.title, document.text) == ("7", "T", "x")
    assert document.attributes == {"year": 1999.0}
    assert [error.partition(":")[0] for error in reading.errors] == ["line 2", "line 3"]


def test_rows_without_a_text_field_say_what_their_fields_say():
    [document] = read(b'{"question": "Why?", "answer": "Because."}\n', "qa.jsonl").documents
    assert document.text == "question: Why?\nanswer: Because."


@pytest.mark.parametrize(
    ("data", "problem", "says"),
    [
        (b"", NoText, "empty"),
        (b"   \n", NoText, "empty"),
        (b"{\\rtf1 }", NoText, "no text"),
        (b"\x89PNG\r\n\x1a\n....", NoText, "PNG image: no text layer; run OCR"),
        (b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', NoText, "XML"),
        (b'<!DOCTYPE a [<!ENTITY x "yy">]><a>&x;</a>', UnsafeDocument, "entities"),
        (OLE + "WordDocument".encode("utf-16-le"), DamagedDocument, "damaged Word document"),
        (OLE + "PowerPoint Document".encode("utf-16-le"), UnsupportedFormat, r"save it as \.pptx"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), ProtectedDocument, "without a password"),
        (OLE + "Workbook".encode("utf-16-le"), DamagedDocument, "workbook"),
        (b"\x1f\x8b\x08....", UnsupportedFormat, "gzip archive: unpack it first"),
        (bytes(range(256)) * 8, UnsupportedFormat, "binary"),
        (b"PK\x03\x04 cut off", DamagedDocument, "zip"),
        (b"%PDF-1.7 cut off", DamagedDocument, "PDF"),
        (zipped(a=b"   "), UnsupportedFormat, "nothing to read in it: a: an empty file"),
        (zipped(a=b"0" * (20 << 20)), UnsafeDocument, "limits"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(data, problem, says):
    with pytest.raises(problem, match=says):
        read(data, "file.txt")


@pytest.mark.parametrize(
    "head", ["<!-- a -->" * 5000, "[" * 60000, "](" * 30000, "> " * 30000, "#" * 60000, "|-" * 30000]
)
@pytest.mark.timeout(20)
def test_sniffing_takes_no_time_over_repetition(head):
    assert read((head + "x words").encode(), "a.txt").documents


def test_comments_before_a_page_do_not_hide_it():
    assert read(b"<!-- a -->\n<!-- b --> <p>words</p>", "x").documents[0].kind == "html"
