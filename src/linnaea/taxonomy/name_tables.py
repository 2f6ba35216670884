"""Tables with a column of names: read whatever their state, written back with the columns of the resolution.

A row that cannot be read (too many cells) is kept with what can be kept of it, and reported; other rows stay in place.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import atomic_path, explain_os_errors
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.resolve import RESULT_COLUMNS, Status


@dataclass(frozen=True, kw_only=True)
class NameTable:
    """An input table, its column of names, and what is known per row."""

    rows: pl.DataFrame
    names: pl.Series
    given: pl.DataFrame | None
    """Columns named after the ranks from kingdom to family, if there are any."""
    problems: pl.Series | None
    """[n_rows] why a row could not be read, null where it could."""

    @property
    def n_unreadable(self) -> int:
        return 0 if self.problems is None else int(self.problems.is_not_null().sum())


def read_names(path: Path, column: str = "") -> NameTable:
    """Read a CSV, TSV or Parquet table, or a text file with a name per line, and find its column of names.

    Raises:
        UsageError: there is no such column, or none was named and there are several.
        LinnaeaError: the file cannot be read.
    """
    if not path.is_file():
        raise LinnaeaError(f"{path}: no such file")
    with explain_os_errors(path):
        rows, problems = _read(path)
    if not column:
        if rows.width != 1:
            raise UsageError(
                f"{path}: which column holds the names? --column with one of {', '.join(rows.columns[:20])}"
            )
        column = rows.columns[0]
    if column not in rows.columns:
        raise UsageError(f"{path}: no column {column!r}; there are {', '.join(rows.columns[:20])}")
    by_rank = {name.lower(): name for name in rows.columns if name != column}
    ranks = [label for label in RANK_LABELS[: int(Rank.FAMILY) + 1] if label in by_rank]
    given = rows.select(pl.col(by_rank[label]).cast(pl.String).alias(label) for label in ranks) if ranks else None
    return NameTable(rows=rows, names=rows[column].cast(pl.String, strict=False), given=given, problems=problems)


def _read(path: Path) -> tuple[pl.DataFrame, pl.Series | None]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path), None
        if suffix == ".txt":
            lines = _decode(path.read_bytes()).splitlines()
            return pl.DataFrame({"name": pl.Series(lines, dtype=pl.String)}), None
        separator = "\t" if suffix in (".tsv", ".tab") else ","
        try:
            return pl.read_csv(path, separator=separator, infer_schema=False), None
        except PolarsError:
            return _read_line_by_line(path, separator)
    except PolarsError as error:
        raise LinnaeaError(f"{path}: cannot be read as a table: {' '.join(str(error).split())[:160]}") from error


def _read_line_by_line(path: Path, separator: str) -> tuple[pl.DataFrame, pl.Series]:
    """A table that is not quite well-formed: rows with too many cells are cut, with a reason."""
    content = _decode(path.read_bytes()).replace("\0", "")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
    csv.field_size_limit(2**27)
    header = next(reader, None)
    if not header:
        raise LinnaeaError(f"{path}: the file is empty; a table needs a line of column names")
    width, rows, problems = len(header), [], []
    for row in reader:
        if not row:
            continue
        rows.append([*row[:width], *[None] * (width - len(row))])
        problems.append(f"{len(row)} cells where the table has {width}" if len(row) > width else None)
    unique = [name if name not in header[:at] else f"{name}_{at}" for at, name in enumerate(header)]
    table = pl.DataFrame(rows, schema=dict.fromkeys(unique, pl.String), orient="row")
    return table, pl.Series("problem", problems, dtype=pl.String)


def _decode(content: bytes) -> str:
    """UTF-8, or Windows-1252 where it is not; every byte sequence is a text in the end."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def write_resolved(table: NameTable, resolved: pl.DataFrame, output: Path) -> pl.DataFrame:
    """Write the rows with the columns of their resolution; ours get a prefix where the input has the same name.

    Returns:
        the resolution as written, in which unreadable rows are rejected
    """
    if table.problems is not None:
        bad = table.problems.is_not_null()
        empty = [pl.when(pl.lit(bad)).then(pl.lit("")).otherwise(pl.col(c)).alias(c) for c in RESULT_COLUMNS]
        resolved = resolved.with_columns(empty).with_columns(
            status=pl.when(pl.lit(bad)).then(pl.lit(Status.REJECTED.value)).otherwise("status"),
            note=pl.when(pl.lit(bad)).then("unreadable row: " + pl.lit(table.problems)).otherwise("note"),
        )
    taken = set(table.rows.columns)
    ours = {name: f"resolved_{name}" if name in taken else name for name in RESULT_COLUMNS}
    both = pl.concat([table.rows, resolved.rename(ours)], how="horizontal")
    with atomic_path(output) as partial:
        if output.suffix.lower() == ".parquet":
            both.write_parquet(partial)
        else:
            # An empty cell says the same as two quotes.
            strings = [name for name, kind in both.schema.items() if kind == pl.String]
            blank = both.with_columns(pl.when(pl.col(c) != "").then(pl.col(c)).alias(c) for c in strings)
            blank.write_csv(partial, separator="\t" if output.suffix.lower() == ".tsv" else ",")
    return resolved
