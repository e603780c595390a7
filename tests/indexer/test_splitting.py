"""Chunks stand where they say and fit; each strategy keeps its promises."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chunking import Chunking
from indexer.hash_embedder import HashEmbedder
from indexer.passages import context, embedded
from indexer.reading.outline import outlined
from indexer.records import Document, Section
from indexer.splitting import Splitting, windows
from indexer.windows import Windowed

TEXT = st.text(st.sampled_from("abc de.\n\n。中文字#-`\t é😀|"), max_size=400)
SOME = ["one", "two", "three.", "four\n\n", "five", "#", "##", "six|", "中文"]
WORDS = st.lists(st.sampled_from(SOME), max_size=120).map(" ".join)
SECTIONS = st.lists(
    st.builds(
        Section,
        TEXT | WORDS,
        st.integers(1, 9) | st.none(),
        st.lists(st.sampled_from(["A", "B b", "a much longer heading of many words"]), max_size=3).map(tuple),
        st.sampled_from(["", "", "| n | m |\n|---|---|\n", "| " + "wide | " * 30 + "\n"]),
    ),
    max_size=6,
).map(tuple)
KINDS = st.sampled_from(["text", "markdown", "python", "xlsx"])
EMBEDDER = HashEmbedder(max_tokens=24)


def fits(document, chunk, embedder=EMBEDDER) -> bool:
    whole = embedded(document.title, chunk.text, chunk.headings, chunk.lead, embedder)
    return embedder.count([whole])[0] <= embedder.max_tokens


def assert_slices_lose_no_words(document, chunks):
    end = 0
    for chunk in chunks:
        assert document.text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.text.strip() == chunk.text != ""
        assert not document.text[end : max(end, chunk.char_start)].strip()
        end = max(end, chunk.char_end)
    assert not document.text[end:].strip()


@given(sections=SECTIONS, title=TEXT, kind=KINDS)
def test_chunks_are_slices_that_fit_the_window_and_lose_no_words(sections, title, kind):
    document = Document(title, sections, kind)
    chunks = Splitting()(document, EMBEDDER)
    assert_slices_lose_no_words(document, chunks)
    assert all(fits(document, chunk) for chunk in chunks)
    assert all(one.char_end <= two.char_start for one, two in pairwise(chunks))


@given(text=TEXT | WORDS)
def test_sections_of_markdown_joined_are_the_text(text):
    assert "".join(section.text for section in outlined(text)) == text


@given(pages=st.lists(TEXT, min_size=1, max_size=5))
def test_pages_of_a_chunk_are_those_it_stands_on(pages):
    sections = tuple(Section(text, number) for number, text in enumerate(pages, start=1))
    starts = [sum(map(len, pages[:at])) for at in range(len(pages) + 1)]
    for chunk in Splitting()(Document("", sections, "pdf"), EMBEDDER):
        assert starts[chunk.page_start - 1] <= chunk.char_start < starts[chunk.page_start]
        assert starts[chunk.page_end - 1] < chunk.char_end <= starts[chunk.page_end]


@given(sections=SECTIONS, title=TEXT, kind=KINDS, overlap=st.integers(0, 50))
def test_static_chunks_keep_their_size_and_overlap(sections, title, kind, overlap):
    document = Document(title, tuple(Section(one.text * 4, one.page) for one in sections), kind)
    chunks = Splitting(Chunking("static", 100, overlap))(document, EMBEDDER)
    assert_slices_lose_no_words(document, chunks)
    for chunk in chunks:
        assert EMBEDDER.count([chunk.text])[0] <= 100
    for one, two in pairwise(chunks):
        assert one.char_start < two.char_start
        assert one.char_end < two.char_end
        repeated = document.text[two.char_start : max(two.char_start, one.char_end)]
        assert EMBEDDER.count([repeated])[0] <= overlap


def test_static_chunks_repeat_nearly_as_much_as_is_asked_for():
    document = Document("", (Section("A short sentence of words. " * 300),), "text")
    chunks = Splitting(Chunking("static", 200, 100))(document, EMBEDDER)
    for one, two in pairwise(chunks):
        assert EMBEDDER.count([document.text[two.char_start : one.char_end]])[0] >= 100 - 200 // 16


@given(sections=SECTIONS, title=TEXT, kind=KINDS)
def test_passages_contain_their_chunks_and_keep_their_size(sections, title, kind):
    document = Document(title, sections, kind)
    chunks = Splitting(Chunking("parent", 16, parent_tokens=60))(document, EMBEDDER)
    assert_slices_lose_no_words(document, chunks)
    for chunk in chunks:
        start, end = chunk.parent
        assert start <= chunk.char_start < chunk.char_end <= end
        assert EMBEDDER.count([document.text[start:end]])[0] <= 60
        assert EMBEDDER.count([chunk.text])[0] <= 16
        assert fits(document, chunk)
    spans = sorted({chunk.parent for chunk in chunks})
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_a_short_text_is_one_chunk():
    [chunk] = Splitting()(Document("", (Section("  a few words \n"),), "text"), EMBEDDER)
    assert chunk.text == "a few words"


def markdown(text: str) -> Document:
    return Document("Guide", outlined(text), "markdown")


def test_a_section_starts_a_chunk_under_its_headings():
    text = "# One\n\n" + "word " * 12 + "\n## Two\n\n" + "more " * 12
    chunks = Splitting()(markdown(text), EMBEDDER)
    assert [(chunk.text.split("\n")[0], chunk.headings) for chunk in chunks] == [
        ("# One", ("One",)),
        ("## Two", ("One", "Two")),
    ]


def test_headings_without_a_text_of_their_own_go_with_what_follows():
    [chunk] = Splitting()(markdown("# One\n\n## Two\n\nBody here."), EMBEDDER)
    assert chunk.text == "# One\n\n## Two\n\nBody here."
    assert chunk.headings == ("One", "Two")


def test_a_heading_is_never_alone_before_a_long_paragraph():
    text = "## Head\n\n" + "A sentence of words. " * 30
    chunks = Splitting()(markdown(text), EMBEDDER)
    assert chunks[0].text.startswith("## Head\n\nA sentence")
    assert len(chunks) > 3


def test_small_neighbours_share_a_chunk():
    text = "".join(f"## S{at}\n\nTiny.\n\n" for at in range(4)) + "## Long\n\n" + "word " * 40
    chunks = Splitting()(markdown(text), HashEmbedder(max_tokens=60))
    assert [chunk.headings for chunk in chunks] == [("S0",), ("S3",), ("Long",)]


def test_every_chunk_of_a_long_table_is_read_with_its_header():
    rows = "".join(f"| {at} | {at * at} |\n" for at in range(40))
    document = markdown(f"# Squares\n\n| n | n² |\n|---|---|\n{rows}")
    chunks = [chunk for chunk in Splitting()(document, HashEmbedder(max_tokens=64)) if "| 39 |" in chunk.text]
    [last] = chunks
    assert last.lead == "| n | n² |\n|---|---|\n"
    assert all(line.startswith("| ") and line.endswith(" |") for line in last.text.split("\n"))
    first = Splitting()(document, HashEmbedder(max_tokens=64))[0]
    assert first.lead == ""
    assert first.text.startswith("# Squares\n\n| n | n² |\n|---|---|\n| 0 | 0 |\n")


def test_code_is_cut_between_functions():
    text = "".join(f"def f{at}(x):\n    y = x + {at}\n    return y * {at}\n\n\n" for at in range(6))
    chunks = Splitting()(Document("", (Section(text),), "python"), EMBEDDER)
    assert len(chunks) > 1
    assert all(chunk.text.startswith("def f") for chunk in chunks)


def test_equal_paragraphs_have_their_own_places():
    text = "\n\n".join(["the same words again and again and again"] * 6)
    chunks = Splitting()(Document("", (Section(text),), "text"), EMBEDDER)
    assert len({chunk.char_start for chunk in chunks}) == len(chunks) > 1


def test_where_a_chunk_stands_is_shortened_from_the_middle():
    embedder = HashEmbedder(max_tokens=40)
    assert context("T", (), embedder) == "T\n"
    assert context("", (), embedder) == ""
    assert context("T", ("T", "A"), embedder) == "T › A\n"
    assert context("Title", ("a b c d e f g", "h i j k l m n o", "Last"), embedder) == "Title › Last\n"
    assert "Last" in context("many words " * 30, ("Last",), embedder)


@given(title=TEXT, headings=st.lists(TEXT, max_size=4))
def test_where_a_chunk_stands_takes_at_most_a_quarter_of_the_window(title, headings):
    assert EMBEDDER.count([context(title, headings, EMBEDDER)])[0] <= EMBEDDER.max_tokens // 4


@given(text=TEXT | WORDS)
def test_windows_of_a_text_fit_and_lose_no_words(text):
    parts = windows(text, EMBEDDER)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(EMBEDDER.count([part])[0] <= EMBEDDER.max_tokens for part in parts)


def test_a_text_longer_than_the_window_is_embedded_to_its_end():
    embedder = HashEmbedder(max_tokens=8)
    rows = Windowed(embedder).passages(["short one", "start " * 20 + "finish " * 20])
    assert rows[0] == pytest.approx(embedder.passages(["short one"])[0])
    assert rows[1] @ embedder.query("finish") > 0.5
    assert rows[1] @ rows[1] == pytest.approx(1)
