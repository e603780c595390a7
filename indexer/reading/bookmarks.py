"""A page's text under the bookmarks of its file: what stands under which headings."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from indexer.records import Section


class Piece(NamedTuple):
    """A part of a page's text."""

    text: str
    lead: str = ""  # of a table


class Bookmark(NamedTuple):
    """An entry of a file's outline."""

    level: int  # from 0
    title: str


def headed(
    pieces: Sequence[Piece], page: int, bookmarks: Sequence[Bookmark], path: list[str]
) -> Iterator[Section]:
    """Sections of a page, cut where a bookmark's title stands; `path` goes on to the next page.

    A title that is not found counts from the top of the page.
    """
    text = "".join(piece.text for piece in pieces)
    cuts: list[tuple[int, Bookmark]] = []
    at = 0
    for bookmark in bookmarks:
        place = _place(text, bookmark.title, at)
        at = at if place is None else place
        cuts.append((at, bookmark))
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        while cuts and cuts[0][0] < end:
            cut, bookmark = cuts.pop(0)
            if cut > start and not piece.lead:
                yield Section(text[start:cut], page, tuple(path))
                start = cut
            path[:] = [*path[: bookmark.level], bookmark.title]
        yield Section(text[start:end], page, tuple(path), piece.lead)
        start = end
    for _, bookmark in cuts:
        path[:] = [*path[: bookmark.level], bookmark.title]


def _place(text: str, title: str, start: int) -> int | None:
    """Where a line says the title, whatever its number, spaces and case; it may go over two lines."""
    wanted = _letters(title)
    if not wanted:
        return None
    lines = text[start:].splitlines(keepends=True)
    at = start
    for number, line in enumerate(lines):
        both = _letters(line + (lines[number + 1] if number + 1 < len(lines) else ""))
        alone = _letters(line)
        if (alone and alone.endswith(wanted) and len(alone) <= len(wanted) + 4) or (
            both.startswith(wanted) and len(alone) < len(wanted) <= len(both)
        ):
            return at
        at += len(line)
    return None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
