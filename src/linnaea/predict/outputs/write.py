"""The formats of predictions, and the one place that writes a file of them."""

import json
from collections.abc import Callable, Iterable
from csv import DictWriter
from pathlib import Path

import polars as pl

from linnaea.predict.outputs.camtrapdp import write_camtrapdp
from linnaea.predict.outputs.contact_sheet import write_contact_sheet
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.megadetector import write_megadetector
from linnaea.predict.outputs.rows import Row, Writable, table_of
from linnaea.predict.outputs.speciesnet import write_speciesnet, write_speciesnet_legacy
from linnaea.predict.records.camtrap_package import write_camtrap_package
from linnaea.predict.records.darwin_core import write_darwin_core
from linnaea.storage import atomic_path

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

FORMS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".html": "html",
    ".json": "megadetector",
}
"""The format for each file suffix."""


def write_csv(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    writer = DictWriter(stream, context.columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_without_formulas, rows) if context.no_formulas else rows)


def _without_formulas(row: Row) -> Row:
    """Return a row in which no text begins as a formula of spreadsheets does (OWASP, CSV injection)."""
    return {key: f"'{cell}" if _is_formula(cell) else cell for key, cell in row.items()}


def _is_formula(cell: object) -> bool:
    return isinstance(cell, str) and cell.startswith(FORMULA_STARTS)


def write_jsonl(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_json(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write the rows as one JSON list."""
    stream.write("[")
    for number, row in enumerate(rows):
        stream.write((",\n " if number else "\n ") + json.dumps(row, ensure_ascii=False))
    stream.write("\n]\n")


WRITERS: dict[str, Callable[[Writable, Iterable[Row], Context], None]] = {
    "csv": write_csv,
    "json": write_json,
    "jsonl": write_jsonl,
    "megadetector": write_megadetector,
    "speciesnet": write_speciesnet,
    "speciesnet-legacy": write_speciesnet_legacy,
    "camtrapdp": write_camtrapdp,
    "html": write_contact_sheet,
}


MOST_ROWS = 1_048_575
"""The most rows of a sheet of Excel, below the names of the columns."""


def _write_excel(path: Path, table: pl.DataFrame) -> None:
    """Write a workbook in which a name that begins with = stays text, and an address, too.

    Rows that a sheet cannot hold are on the next sheet.
    """
    from xlsxwriter import Workbook

    plain = {"strings_to_formulas": False, "strings_to_urls": False, "nan_inf_to_errors": True}
    with path.open("wb") as stream, Workbook(stream, plain) as book:
        for number, part in enumerate(table.iter_slices(MOST_ROWS) if table.height else [table], start=1):
            part.write_excel(book, worksheet="predictions" if number == 1 else f"predictions {number}")


def write_rows(output: Path, form: str, rows: Iterable[Row], context: Context = Context()) -> None:  # noqa: B008
    """Write a file of predictions in one step; ``form`` is one of :data:`FORMS` or of :data:`WRITERS`.

    ``dwca`` is a zip, and ``camtrapdp-package`` a folder whose last file is ``datapackage.json``.
    """
    rows = context.decided(rows)
    if form == "camtrapdp-package":
        write_camtrap_package(output, rows, context)
        return
    with atomic_path(output) as partial:
        match form:
            case "parquet":
                table_of(rows, context.columns).write_parquet(partial)
            case "dwca":
                write_darwin_core(partial, rows, context)
            case "xlsx":
                _write_excel(partial, table_of(rows, context.columns))
            case _:
                with partial.open("w", encoding="utf-8", newline="") as text:
                    WRITERS[form](text, rows, context)
