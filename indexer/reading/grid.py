"""Rows of cells as a Markdown table."""

import re
from collections.abc import Sequence

_LINES = re.compile(r"\s+")


def markdown_table(rows: Sequence[Sequence[str]], header_rows: int = 1) -> str:
    """A pipe table, rows padded to one width; several header rows are joined column by column."""
    width = max(map(len, rows))
    cells = [[_cell(value) for value in (*row, *[""] * (width - len(row)))] for row in rows]
    header = [
        " ".join(dict.fromkeys(row[column] for row in cells[:header_rows] if row[column]))
        for column in range(width)
    ]
    lines = [header, ["---"] * width, *cells[header_rows:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: str) -> str:
    return _LINES.sub(" ", value).strip().replace("|", "\\|")
