"""Markdown to sections: what stands under which headings, and which rows are a table's header."""

import re
from collections.abc import Sequence
from itertools import pairwise

from indexer.records import Section

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_DELIMITER = frozenset("|:- \t")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")
LONGEST_HEADING = 200  # characters
LONGEST_LEAD = 2_000  # a longer first row is a page laid out as a table


def outlined(text: str, page: int | None = None, above: Sequence[str] = ()) -> tuple[Section, ...]:
    """Sections that joined are `text`: one per heading, and one per table with its header as lead."""
    lines = text.splitlines(keepends=True)
    starts = [0]  # character offset of each line
    for line in lines:
        starts.append(starts[-1] + len(line))
    path: list[tuple[int, str]] = []
    cuts: list[tuple[int, tuple[str, ...], str]] = [(0, tuple(above), "")]
    at, fence = 0, ""
    while at < len(lines):
        mark = _FENCE.match(lines[at])
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        if fence or mark:
            at += 1
            continue
        heading = _heading(lines, at)
        if heading:
            level, words = heading
            path = [*(one for one in path if one[0] < level), (level, words)]
            cuts.append((starts[at], (*above, *(name for _, name in path)), ""))
        elif _table(lines, at):
            names = cuts[-1][1]
            end = at + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            lead = "".join(lines[at : at + 2]) if re.search(r"[^\W_]", lines[at]) else ""
            lead = lead if len(lead) <= LONGEST_LEAD else ""
            cuts += [(starts[at], names, lead), (starts[end], names, "")]
            at = end
            continue
        at += 1
    cuts.append((len(text), (), ""))
    return tuple(
        Section(text[start:end], page, names, lead)
        for (start, names, lead), (end, _, _) in pairwise(cuts)
        if end > start
    )


def title(sections: Sequence[Section]) -> str:
    """The first heading there is, or nothing."""
    return next((section.headings[0] for section in sections if section.headings), "")


def plain(heading: str) -> str:
    """A heading's words without links and marks."""
    short = heading[: 10 * LONGEST_HEADING]
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", short)).split())[:LONGEST_HEADING]


def _heading(lines: Sequence[str], at: int) -> tuple[int, str] | None:
    found = _HEADING.match(lines[at])
    if found:
        words = plain(lines[at][found.end() :].strip().rstrip("#"))
        return (len(found[1]), words) if words else None
    alone = not at or not lines[at - 1].strip()
    if alone and at + 1 < len(lines) and lines[at].strip() and "|" not in lines[at]:
        under = _UNDERLINE.match(lines[at + 1].rstrip("\r\n"))
        if under and not _UNDERLINE.match(lines[at]):
            words = plain(lines[at])
            return (1 if under[1][0] == "=" else 2, words) if words else None
    return None


def _table(lines: Sequence[str], at: int) -> bool:
    return (
        "|" in lines[at]
        and at + 1 < len(lines)
        and "|-" in lines[at + 1].replace(" ", "").replace(":", "")
        and _DELIMITER.issuperset(lines[at + 1].strip())
    )
