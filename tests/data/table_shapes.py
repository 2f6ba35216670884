"""One small table in every shape in which people bring tables."""

import csv
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import polars as pl

Rows = Sequence[Sequence[str]]
"""The header and the rows below it."""


def to_csv(rows: Rows, separator: str = ",", end: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    """The table as text; cells with separators, quotes or newlines are quoted."""
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[call-overload]
    return stream.getvalue()


_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "application/vnd.openxmlformats-package.relationships+xml"


def _relation(kind: str, target: str) -> str:
    inner = f'<Relationship Id="r1" Type="{_OFFICE}/{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{inner}</Relationships>'


def write_xlsx(path: Path, rows: Rows) -> None:
    """Write a workbook with one sheet of text cells, as small as Excel's format allows."""
    cell = '<c t="inlineStr"><is><t xml:space="preserve">{}</t></is></c>'
    sheet = "".join(f"<row>{''.join(cell.format(escape(text)) for text in row)}</row>" for row in rows)
    types = f'<Default Extension="rels" ContentType="{_RELATIONS}"/><Default Extension="xml" ContentType="text/xml"/>'
    book = '<sheets><sheet name="Sheet1" sheetId="1" r:id="r1"/></sheets>'
    members = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">{types}</Types>',
        "_rels/.rels": _relation("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">{book}</workbook>',
        "xl/_rels/workbook.xml.rels": _relation("worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def write_parquet(path: Path, rows: Rows) -> None:
    header, *body = rows
    pl.DataFrame(body, schema=dict.fromkeys(header, pl.String), orient="row").write_parquet(path)


def _text(encoding: str, *dialect: Any) -> Callable[[Path, Rows], None]:
    def write(path: Path, rows: Rows) -> None:
        path.write_bytes(to_csv(rows, *dialect).encode(encoding))

    return write


def _upper(path: Path, rows: Rows) -> None:
    path.write_text(to_csv([[f" {name.upper()} " for name in rows[0]], *rows[1:]]))


SHAPES: dict[str, tuple[str, Callable[[Path, Rows], None]]] = {
    "comma": (".csv", _text("utf-8")),
    "semicolon": (".csv", _text("utf-8", ";")),
    "tab": (".tsv", _text("utf-8", "\t")),
    "pipe": (".csv", _text("utf-8", "|")),
    "byte order mark": (".csv", _text("utf-8-sig")),
    "UTF-16": (".csv", _text("utf-16", ";")),
    "Latin-1": (".csv", _text("latin-1", ";")),
    "Excel": (".xlsx", write_xlsx),
    "Parquet": (".parquet", write_parquet),
    "all quoted": (".csv", _text("utf-8", ",", "\n", csv.QUOTE_ALL)),
    "CRLF": (".csv", _text("utf-8", ",", "\r\n")),
    "upper-case headers": (".csv", _upper),
}
"""Ending and writer of every shape. Embedded newlines and separators are up to the table, which has them."""


def write_shape(shape: str, folder: Path, rows: Rows, name: str = "table") -> Path:
    """Write the table in a shape; returns the file."""
    suffix, write = SHAPES[shape]
    path = folder / f"{name}{suffix}"
    write(path, rows)
    return path
