"""PDF pages: bookmarks as headings, ruled tables as Markdown, columns one after the other."""

from indexer.reading.columns import Strip, in_columns
from indexer.reading.reader import read
from indexer.reading.ruled import Line, grids
from tests.indexer.documents import at, drawn


def only(data: bytes):
    [document] = read(data, "x.pdf").documents
    return document


def test_bookmarks_are_headings_from_where_their_title_stands():
    pages = (
        at(20, 300, "Before.") + at(20, 200, "1 Start") + at(20, 100, "Text of it."),
        at(20, 300, "More of it.") + at(20, 200, "End") + at(20, 100, "Last words."),
        at(20, 300, "Appendix without a title line."),
    )
    document = only(drawn(*pages, bookmarks=(("Start", 1), ("End", 2), ("Annex", 3))))
    assert [
        (section.page, section.headings, section.text.split("\n")[0]) for section in document.sections
    ] == [
        (1, (), "Before."),
        (1, ("Start",), "1 Start"),
        (2, ("Start",), "More of it."),
        (2, ("End",), "End"),
        (3, ("Annex",), "Appendix without a title line."),
    ]


def boxes(xs: list[int], ys: list[int]) -> str:
    """Lines of a table."""
    flat = "".join(f"{xs[0]} {y} m {xs[-1]} {y} l S " for y in ys)
    return flat + "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S " for x in xs)


def test_a_ruled_table_is_markdown_with_its_header_as_lead():
    cells = "".join(
        at(20 + 100 * column, 210 - 30 * row, text)
        for row, texts in enumerate((("city", "people"), ("Bonn", "330000"), ("Trier", "110000")))
        for column, text in enumerate(texts)
    )
    page = at(20, 300, "Cities") + boxes([10, 110, 210], [140, 170, 200, 230]) + cells + at(20, 100, "After.")
    document = only(drawn(page))
    assert document.text == (
        "Cities\n\n| city | people |\n| --- | --- |\n| Bonn | 330000 |\n| Trier | 110000 |\n\nAfter.\n\n"
    )
    assert [section.lead for section in document.sections] == ["", "| city | people |\n| --- | --- |\n", ""]


def test_a_row_that_spans_the_table_is_said_once():
    lines = "10 140 m 210 140 l S 10 170 m 210 170 l S 10 200 m 210 200 l S 10 230 m 210 230 l S "
    walls = "10 140 m 10 230 l S 210 140 m 210 230 l S 110 140 m 110 200 l S "
    cells = (
        at(20, 210, "All of them")
        + at(20, 180, "a")
        + at(120, 180, "b")
        + at(20, 150, "1")
        + at(120, 150, "2")
    )
    document = only(drawn(lines + walls + cells))
    assert document.text == "All of them\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"


def test_a_frame_around_a_page_is_no_table():
    assert only(drawn("5 5 590 390 re S " + at(20, 300, "Words."))).text == "Words.\n\n"
    assert grids([Line(0, 0, 100, 0), Line(0, 50, 100, 50), Line(0, 0, 0, 50), Line(100, 0, 100, 50)]) == []


def test_columns_written_row_by_row_are_read_one_after_the_other():
    left = [f"left words on the line of number {number} go here" for number in range(12)]
    right = [f"right words on the line of number {number} go here" for number in range(12)]
    rows = "".join(
        at(20, 300 - 20 * row, one) + at(320, 300 - 20 * row, two)
        for row, (one, two) in enumerate(zip(left, right, strict=True))
    )
    title = "A title across both of the columns of this whole page here"
    assert only(drawn(at(20, 360, title) + rows)).text.split("\n")[:-2] == [title, *left, *right]


def test_columns_in_order_and_cells_of_a_table_are_left_as_they_are():
    column = [Strip(20, 20 * row, 280, 20 * row + 12) for row in range(12, 0, -1)]
    beside = [Strip(320, 20 * row, 580, 20 * row + 12) for row in range(12, 0, -1)]
    assert in_columns([*column, *beside], 600) is None
    interleaved = [strip for pair in zip(column, beside, strict=True) for strip in pair]
    assert in_columns(interleaved, 600) == [*range(0, 24, 2), *range(1, 24, 2)]
    narrow = [strip._replace(right=strip.left + 60) for strip in interleaved]
    assert in_columns(narrow, 600) is None
