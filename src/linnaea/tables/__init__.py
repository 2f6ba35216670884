"""The reader of tables: CSV in any common dialect, Parquet, Excel, JSON lines, and lists of names.

:func:`read_table` reads a whole table, :func:`scan_table` a large one lazily, :func:`read_list` a text file with one
name per line. The format is detected from the content (:mod:`linnaea.tables.formats`). polars is imported when a table
is read.
"""

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from linnaea.archives import check_gzip, is_gzipped
from linnaea.errors import LinnaeaError, UsageError
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.storage import atomic_path, explain_os_errors, open_regular
from linnaea.tables.encodings import GUESSED, decode, is_utf8, log_note, transcode
from linnaea.tables.formats import TableFormat, sniff
from linnaea.tables.workbooks import read_excel

if TYPE_CHECKING:
    import polars as pl

Frame = TypeVar("Frame", "pl.DataFrame", "pl.LazyFrame")

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".xlsx", ".csv.gz", ".tsv.gz")
"""Endings of files that are read as tables where a list of names is accepted as well."""

WRITTEN_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Endings of the tables that :func:`write_table` writes."""

_LARGE = 1 << 26
"""Bytes from which a text file is read in blocks where that is possible."""
_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that was read, with notes and problems."""

    rows: "pl.DataFrame"
    notes: tuple[str, ...] = ()
    """Notes for the user; they were also logged as warnings."""
    problems: "pl.Series | None" = None
    """Why each row could not be read ``[n_rows]``, null if it could; ``None`` if every row could be read."""


def read_table(
    path: Path,
    *,
    encoding: str | None = None,
    columns: Iterable[str] = (),
    as_text: bool = True,
    keep_ragged: bool = False,
    change: "Callable[[pl.DataFrame], pl.DataFrame] | None" = None,
) -> Table:
    """Read a whole table: CSV with any usual separator, TSV, Parquet, the first sheet of an Excel file or JSON lines.

    Args:
        path: the file; a ``.gz`` file is decompressed.
        encoding: the encoding of a text file; by default it is detected (UTF-8, UTF-16, else Windows-1252 with a
            note).
        columns: names the caller knows; a header that differs only in case or surrounding spaces is renamed to it.
        as_text: read every column as text and every missing cell as ``""``; otherwise types and nulls are those of
            the file.
        keep_ragged: cut rows with too many cells and note it in ``problems``, instead of raising an error.
        change: a change of text rows, such as a choice of columns. A large text file is changed block by block while
            it is read, so that its rows are never in memory at once; it must give the same for blocks as for the whole.

    Raises:
        LinnaeaError: the file does not exist, it is not a table (the message names its format), or a row has too many
            cells.
        UsageError: ``encoding`` is not the name of an encoding.
    """
    import polars as pl

    form = sniff(path, encoding=encoding)
    note, problems = form.note, None
    with explain_os_errors(path), explain_polars_errors(path):
        if change and as_text and (changed := _read_blocks(path, form, change)) is not None:
            return Table(rows=changed, notes=(note,) if note else ())
        if form.kind == "parquet":
            rows = read_parquet(path)
        elif form.kind == "excel":
            rows, note = read_excel(path)
        elif form.kind == "json lines":
            with open_regular(path) as stream:
                rows = pl.read_ndjson(stream, infer_schema_length=None)
        else:
            rows, problems, note = _read_text(path, form, keep_ragged=keep_ragged)
    rows = rows.rename(match_columns(rows.columns, columns))
    if as_text:
        rows = with_words(rows).with_columns(pl.all().cast(pl.String, strict=False).fill_null(""))
    return Table(rows=change(rows) if change else rows, notes=(note,) if note else (), problems=problems)


@contextmanager
def scan_table(path: Path) -> Iterator["pl.LazyFrame"]:
    """Yield a table of any size as a lazy frame; what a cell of a CSV cannot hold is text (:func:`_words`).

    The columns of a text file are text; rows with too many cells are cut. A text file that is not UTF-8 is copied as
    UTF-8 to the folder for temporary files, and the copy is removed at the end.

    Raises:
        LinnaeaError: the file does not exist or is not a table.
    """
    import polars as pl

    form = sniff(path)
    with explain_os_errors(path), explain_polars_errors(path), tempfile.TemporaryDirectory("linnaea-table") as scratch:
        if form.kind in ("parquet", "json lines"):
            table = scan_parquet(path) if form.kind == "parquet" else _scan_json_lines(path)
            yield table.with_columns(_words(table.collect_schema()))
        elif form.kind == "excel":
            yield read_table(path).rows.lazy()
        else:
            found = form.encoding
            if found == "utf-8" and not is_utf8(path):
                found = "cp1252"
                log_note(path, GUESSED)
            if is_gzipped(path):
                check_gzip(path)
            utf8 = path if found == "utf-8" else transcode(path, found, Path(scratch) / "table")
            yield pl.scan_csv(utf8, glob=False, separator=form.separator, quote_char=form.quote, infer_schema=False,
                              encoding="utf8-lossy", truncate_ragged_lines=True)  # fmt: skip


def read_list(path: Path, *, encoding: str | None = None) -> Table:
    """Read a text file with one name per line as a table with the column ``name``.

    Lines that start with # are comments. Empty lines stay as rows with an empty name.

    Raises:
        LinnaeaError: the file does not exist or is not a text file.
    """
    import polars as pl

    form = sniff(path, encoding=encoding, empty=True)
    if form.kind != "text":
        raise LinnaeaError(f"{path}: cannot be read as a list of names: this is {form.kind}")
    with explain_os_errors(path):
        text, note = decode(path, form.encoding, form.note)
    names = [line for line in text.splitlines() if not line.startswith("#")]
    return Table(rows=pl.DataFrame({"name": pl.Series(names, dtype=pl.String)}), notes=(note,) if note else ())


def is_table(path: Path) -> bool:
    """Return whether a file is read as a table, by its ending, where a list of names is accepted as well."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def check_table_name(path: Path) -> None:
    """Raise a UsageError if :func:`write_table` cannot tell a form from the ending of ``path``."""
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise UsageError(f"{path}: unknown file type; choose one of {', '.join(WRITTEN_SUFFIXES)}")


def write_table(table: "pl.DataFrame", path: Path) -> None:
    """Write a table as Parquet, TSV or, with any other ending, CSV.

    In text, an empty string becomes an empty cell, and lists and records become JSON.
    """
    import polars as pl

    with atomic_path(path) as partial:
        if path.suffix.lower() == ".parquet":
            table.write_parquet(partial)
            return
        blank = with_words(table).with_columns(pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)))
        blank.write_csv(partial, separator="\t" if path.suffix.lower() == ".tsv" else ",")


def with_words(table: "pl.DataFrame") -> "pl.DataFrame":
    """Return a table whose lists and records are JSON, whose bytes are decoded, and whose durations are text."""
    return table.with_columns(_words(table.schema))


def _words(schema: "Mapping[str, pl.DataType]") -> "list[pl.Expr]":
    """Return the columns that a cell of a CSV cannot hold, as text: JSON for lists and records, bytes decoded."""
    import polars as pl

    return [
        pl.col(name).map_batches(_to_words, return_dtype=pl.String, is_elementwise=True)
        for name, kind in schema.items()
        if kind.is_nested() or kind in (pl.Binary, pl.Duration, pl.Object)
    ]


def _to_words(cells: "pl.Series") -> "pl.Series":
    import polars as pl

    return pl.Series(cells.name, [_to_word(cell) for cell in cells.to_list()], dtype=pl.String)


def _to_word(cell: object) -> str | None:
    match cell:
        case None:
            return None
        case bytes():
            return cell.decode("utf-8", "backslashreplace")
        case list() | dict():
            return json.dumps(cell, ensure_ascii=False, default=_to_word)
    return str(cell)


def with_decimal_points(table: Frame, columns: Iterable[str]) -> Frame:
    """Return a table whose text has decimal points in these columns: ``52,516`` becomes 52.516, the rest stays."""
    import polars as pl

    schema = table.collect_schema()
    texts = [pl.col(name) for name in columns if schema.get(name) == pl.String]
    return table.with_columns(text.str.replace(r"^([^.,]*),([^.,]*)$", "${1}.${2}") for text in texts)


def match_columns(columns: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Map the headers of a table with another spelling (case, surrounding spaces) to the known names.

    A header that equals a known name stands for that name only. If several headers fit one name, the first is used.
    """
    known = dict.fromkeys(name for name in known if name)
    renamed: dict[str, str] = {}
    for name in known:
        if name in columns:
            continue
        fits = (
            column for column in columns if _key(column) == _key(name) and column not in known and column not in renamed
        )
        if (found := next(fits, None)) is not None:
            renamed[found] = name
    return renamed


_NAMES_AT_MOST = 300


def find_column(columns: Sequence[str], *names: str) -> str:
    """Return the header of the first of ``names`` that the table has, in any case, or ``""`` if it has none."""
    for name in names:
        if name in columns:
            return name
        if fits := [column for column in columns if _key(column) == _key(name)]:
            return fits[0]
    return ""


def need_columns(columns: Sequence[str], path: Path, *wanted: str) -> None:
    """Check that a table has every column in ``wanted`` that is not ``""``.

    Raises:
        UsageError: a column is missing; the message lists the missing columns and the existing ones.
    """
    if missing := [column for column in wanted if column and column not in columns]:
        raise UsageError(f"{path}: no column {', '.join(map(repr, missing))}; it has {shorten_columns(columns)}")


def shorten_columns(columns: Sequence[str]) -> str:
    """Return the names of columns for a message, of many the first ones and their number."""
    names = ", ".join(columns)
    return names if len(names) <= _NAMES_AT_MOST else f"{names[:_NAMES_AT_MOST]}... ({len(columns):,} columns)"


def _key(column: str) -> str:
    return column.strip().casefold()


_OTHERWISE = "damaged, or of lines that are not alike; JSON lines have one object a line, with values of one type a key"


@contextmanager
def explain_polars_errors(path: Path) -> Iterator[None]:
    """Turn what polars says about a table into a :class:`LinnaeaError`; --debug shows polars' own words."""
    from polars.exceptions import DuplicateError, PolarsError

    try:
        yield
    except DuplicateError as error:
        twice = re.search(r"'([^']*)'", str(error))
        name = f" {twice[1]!r}" if twice else ""
        raise LinnaeaError(f"{path}: cannot be read as a table: two columns have the name{name}; rename one") from error
    except PolarsError as error:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == b"PAR1"
        what = "a damaged Parquet file; write or copy it again" if is_parquet else _OTHERWISE
        raise LinnaeaError(f"{path}: cannot be read as a table: {what}") from error


def _read_text(path: Path, form: TableFormat, *, keep_ragged: bool) -> tuple["pl.DataFrame", "pl.Series | None", str]:
    """Return the rows, the problem of each row, and the note; well-formed UTF-8 is read fast."""
    import polars as pl

    options = {"separator": form.separator, "quote_char": form.quote, "infer_schema": False}
    if form.encoding == "utf-8":
        if is_gzipped(path):
            check_gzip(path)
        try:
            return pl.read_csv(path, glob=False, **options), None, form.note  # type: ignore[arg-type]
        except pl.exceptions.PolarsError:
            pass
    text, note = decode(path, form.encoding, form.note)
    try:
        return pl.read_csv(text.encode(), **options), None, note  # type: ignore[arg-type]
    except pl.exceptions.PolarsError:
        rows, problems = _read_row_by_row(path, text, form)
    if not keep_ragged and (bad := problems.drop_nulls()).len():
        number = int(problems.is_not_null().arg_true()[0]) + 2
        raise LinnaeaError(f"{path}: cannot be read as a table: row {number} has {bad[0]}")
    return rows, problems, note


def _read_blocks(
    path: Path, form: TableFormat, change: "Callable[[pl.DataFrame], pl.DataFrame]"
) -> "pl.DataFrame | None":
    """Return the rows of a large, well-formed text file, changed block by block; ``None`` for any other file."""
    import polars as pl

    if form.kind != "text" or form.encoding != "utf-8" or path.stat().st_size < _LARGE or is_gzipped(path):
        return None
    options = {"separator": form.separator, "quote_char": form.quote, "infer_schema": False}
    try:
        table = pl.scan_csv(path, glob=False, **options)  # type: ignore[arg-type]
        blocks = chain(
            [pl.DataFrame(schema=table.collect_schema())],
            table.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=True),
        )
        return pl.concat([change(block.with_columns(pl.all().fill_null(""))) for block in blocks])
    except pl.exceptions.PolarsError:
        return None


def _read_row_by_row(path: Path, text: str, form: TableFormat) -> tuple["pl.DataFrame", "pl.Series"]:
    """Read a malformed table; rows with too many cells are cut, with a reason."""
    import polars as pl

    csv.field_size_limit(2**27)
    lines = io.StringIO(text, newline="")
    if form.quote:
        reader = csv.reader(lines, delimiter=form.separator)
    else:
        reader = csv.reader(lines, delimiter=form.separator, quoting=csv.QUOTE_NONE)
    header = next(reader, None)
    if not header:
        raise LinnaeaError(f"{path}: cannot be read as a table: it does not begin with a header")
    width, rows, problems = len(header), [], []
    for row in reader:
        if not row:
            continue
        rows.append([*row[:width], *[None] * (width - len(row))])
        problems.append(f"{len(row)} cells, but the table has {width}" if len(row) > width else None)
    unique = [name if name not in header[:at] else f"{name}_{at}" for at, name in enumerate(header)]
    table = pl.DataFrame(rows, schema=dict.fromkeys(unique, pl.String), orient="row")
    return table, pl.Series("problem", problems, dtype=pl.String)


def _scan_json_lines(path: Path) -> "pl.LazyFrame":
    """Return a file of JSON lines; polars can only take the path as a pattern."""
    import polars as pl

    if not set("*?[") & set(str(path)):
        return pl.scan_ndjson(path, infer_schema_length=None)
    with open_regular(path) as stream:
        return pl.read_ndjson(stream, infer_schema_length=None).lazy()
