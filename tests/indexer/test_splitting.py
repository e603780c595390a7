"""Chunks stand where they say and fit."""

from hypothesis import given
from hypothesis import strategies as st

from indexer.hash_embedder import HashEmbedder
from indexer.records import Document, Section
from indexer.splitting import Splitting, heading

TEXT = st.text(st.sampled_from("abc de.\n\n。中文字#-`\t é😀"), max_size=400)
EMBEDDER = HashEmbedder(max_tokens=16)


@given(pages=st.lists(TEXT, max_size=5), title=TEXT, kind=st.sampled_from(["text", "markdown"]))
def test_chunks_are_slices_that_fit_the_window_and_lose_no_words(pages, title, kind):
    sections = tuple(Section(text, number) for number, text in enumerate(pages, start=1))
    document = Document(title, sections, kind)
    chunks = Splitting()(document, EMBEDDER)
    head = heading(title, EMBEDDER)
    end = 0
    for chunk in chunks:
        assert document.text[chunk.char_start : chunk.char_end] == chunk.text
        assert not document.text[end : chunk.char_start].strip()
        assert EMBEDDER.count([head + chunk.text])[0] <= EMBEDDER.max_tokens
        end = chunk.char_end
    assert not document.text[end:].strip()


@given(pages=st.lists(TEXT, min_size=1, max_size=5))
def test_pages_of_a_chunk_are_those_it_stands_on(pages):
    sections = tuple(Section(text, number) for number, text in enumerate(pages, start=1))
    starts = [sum(map(len, pages[:at])) for at in range(len(pages) + 1)]
    for chunk in Splitting()(Document("", sections, "pdf"), EMBEDDER):
        assert starts[chunk.page_start - 1] <= chunk.char_start < starts[chunk.page_start]
        assert starts[chunk.page_end - 1] < chunk.char_end <= starts[chunk.page_end]


def test_a_short_text_is_one_chunk():
    [chunk] = Splitting()(Document("", (Section("  a few words \n"),), "text"), EMBEDDER)
    assert chunk.text == "a few words"


def test_a_markdown_section_starts_a_chunk():
    text = "# One\n\n" + "word " * 12 + "\n# Two\n\n" + "more " * 12
    chunks = Splitting()(Document("", (Section(text),), "markdown"), EMBEDDER)
    assert [chunk.text.split("\n")[0] for chunk in chunks if chunk.text.startswith("#")] == ["# One", "# Two"]


def test_equal_paragraphs_have_their_own_places():
    text = "\n\n".join(["the same words again and again and again"] * 6)
    chunks = Splitting()(Document("", (Section(text),), "text"), EMBEDDER)
    assert len({chunk.char_start for chunk in chunks}) == len(chunks) > 1
