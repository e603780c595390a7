"""Workbooks to Markdown tables, a sheet under its name: the only file that imports python_calamine."""

import io
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError

from indexer.errors import DamagedDocument, ProtectedDocument, UnsafeDocument
from indexer.reading.decoding import clean
from indexer.reading.grid import markdown_table
from indexer.records import Document, Reading, Section

MOST_CELLS = 5_000_000  # of one sheet's used area
_MOST_HEADER_ROWS = 4
_MOST_MERGED = 10_000
_WIDEST_SPAN = 64  # repeated cells; a file may claim any number


def read_workbook(data: bytes, kind: str) -> Reading:
    """XLSX, XLSB, ODS or XLS: blocks of rows between empty rows are tables of their own."""
    try:
        return _read(data, kind)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # calamine's, when its own checks fail; no Exception
            raise
        raise DamagedDocument("damaged workbook") from error


def _read(data: bytes, kind: str) -> Reading:
    sections: list[Section] = []
    errors: list[str] = []
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    except PasswordError as error:
        raise ProtectedDocument("password-protected workbook: save a copy without a password") from error
    except (CalamineError, OSError, ValueError) as error:
        raise DamagedDocument(f"damaged workbook: {error}") from error
    for number, name in enumerate(book.sheet_names, start=1):
        try:
            sections += _sheet(book.get_sheet_by_index(number - 1), clean(name), number)
        except (CalamineError, OSError, ValueError) as error:
            errors.append(f"sheet '{name}' cannot be read: {error}")
    if errors and not sections:
        raise DamagedDocument(f"damaged workbook: {errors[0]}")
    return Reading((Document("", tuple(sections), kind),), tuple(errors))


def _sheet(sheet: CalamineSheet, name: str, number: int) -> Iterator[Section]:
    if sheet.total_height * sheet.total_width > MOST_CELLS:
        raise UnsafeDocument(
            f"sheet '{name}' spans {sheet.total_height} x {sheet.total_width} cells: "
            f"at most {MOST_CELLS} are read; save the used part alone"
        )
    rows = [[_value(cell) for cell in row] for row in sheet.to_python(skip_empty_area=False)]
    _spread(rows, sheet.merged_cell_ranges or [])
    blocks = list(_blocks(rows))
    if blocks:
        yield Section(f"# {name}\n\n", headings=(name,))
    for block in blocks:
        yield from block_sections(block, (name,))


def block_sections(rows: Sequence[Sequence[str]], headings: tuple[str, ...]) -> Iterator[Section]:
    """Lines above a table as text, then the table with its header as lead."""
    width = max(sum(map(bool, row)) for row in rows)
    at = 0
    while at < len(rows) and (width == 1 or sum(map(bool, rows[at])) == 1):
        at += 1
    above = "".join(clean(" ".join(filter(None, row))) + "\n" for row in rows[:at])
    if above:
        yield Section(above + "\n", headings=headings)
    body = rows[at:]
    if not body:
        return
    header = _header_rows(body)
    text = clean(markdown_table(body, header))
    lead = "".join(text.splitlines(keepends=True)[:2])
    yield Section(text + "\n", headings=headings, lead=lead)


def _header_rows(rows: Sequence[Sequence[str]]) -> int:
    """Rows from the top without a number, up to four; one where all of them are words."""
    wordy = 0
    while wordy < len(rows) and not any(map(_number, rows[wordy])):
        wordy += 1
    return wordy if 1 <= wordy <= _MOST_HEADER_ROWS and wordy < len(rows) else 1


def _number(cell: str) -> bool:
    return cell[:1].isdigit() or (cell[:1] in "-+.(" and cell[1:2].isdigit())


def _blocks(rows: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
    """Runs of rows that are not empty, without the columns that are.

    A run of few rows without numbers belongs to the run below it: a header set apart.
    """
    block: list[Sequence[str]] = []
    closed = False  # an empty row came after it
    for row in rows:
        if not any(row):
            closed = bool(block)
            continue
        heads = len(block) <= _MOST_HEADER_ROWS and not any(map(_number, chain.from_iterable(block)))
        if closed and not heads:
            yield _narrowed(block)
            block = []
        closed = False
        block.append(row)
    if block:
        yield _narrowed(block)


def _narrowed(block: Sequence[Sequence[str]]) -> list[list[str]]:
    width = max(map(len, block))
    used = [at for at in range(width) if any(at < len(row) and row[at] for row in block)]
    return [[row[at] if at < len(row) else "" for at in used] for row in block]


def _spread(rows: list[list[str]], ranges: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """Say what stands in a merged cell in each cell it covers; not a line that stands alone, a title."""
    for (top, left), (bottom, right) in ranges[:_MOST_MERGED]:
        if top >= len(rows) or left >= len(rows[top]) or not rows[top][left]:
            continue
        if sum(map(bool, rows[top])) == 1:
            continue
        value = rows[top][left]
        for row in rows[top : min(bottom, top + _WIDEST_SPAN) + 1]:
            for at in range(left, min(right, left + _WIDEST_SPAN, len(row) - 1) + 1):
                row[at] = row[at] or value


def _value(cell: Any) -> str:
    """A cell as it is read: whole numbers without a point, dates as in ISO 8601."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else f"{cell:.10g}"
    if isinstance(cell, datetime):
        midnight = cell.time() == time()
        return cell.date().isoformat() if midnight else cell.isoformat(" ", "seconds")
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell).strip() if not isinstance(cell, timedelta) else str(cell)
