"""Read Excel workbooks, of which a small file may unpack to more than the memory."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.archives import iter_unpacked
from linnaea.errors import LinnaeaError
from linnaea.tables.encodings import log_note

if TYPE_CHECKING:
    import polars as pl

CELLS_OF_WORKBOOK, CELLS_PER_CELL = 10_000_000, 100
"""Cells between the corners of a sheet: of any sheet, and more for each cell that is there. Empty ones need memory."""
_CELL = re.compile(rb"""\br\s*=\s*["']([A-Z]{0,3})(\d{1,7})["']""")


def _check_workbook(path: Path) -> None:
    """Check that the sheets of a workbook are not too large unpacked, and not far larger than the cells in them.

    Raises:
        LinnaeaError: they are, or the file is broken.
    """
    sheet, tail, n_cells, corner = "", b"", 0, (0, 0)
    for name, block in iter_unpacked(path):
        if name != sheet:
            sheet, tail, n_cells, corner = name, b"", 0, (0, 0)
        found = _CELL.findall(tail + block)
        tail = block[-_LONGEST_CELL:]
        n_cells += len(found)
        rows = [int(row) for _, row in found]
        columns = [_column_number(letters) for letters in {letters for letters, _ in found}]
        corner = max([corner[0], *rows]), max([corner[1], *columns])
        extent = corner[0] * corner[1]
        if extent > CELLS_OF_WORKBOOK and extent > CELLS_PER_CELL * n_cells:
            raise LinnaeaError(
                f"{path}: {n_cells:,} cells lie in {corner[0]:,} rows and {corner[1]:,} columns; refused"
            )


_LONGEST_CELL = 20
"""Bytes that the reference of a cell may need."""


def _column_number(letters: bytes) -> int:
    """Return the number of a column, 1 for A; 0 for the number of a row, which has no letters."""
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number


def read_excel(path: Path) -> tuple["pl.DataFrame", str]:
    """Return the first sheet with every cell as text, and a note if there are other sheets.

    Raises:
        LinnaeaError: the workbook is broken, or would take far more memory than the cells in it.
    """
    import fastexcel

    _check_workbook(path)
    try:
        book = fastexcel.read_excel(path)
        rows = book.load_sheet(0, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise LinnaeaError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from error
    first, *others = book.sheet_names
    note = f"read the first sheet, {first!r}; {len(others)} more ignored" if others else ""
    log_note(path, note)
    return rows, note
