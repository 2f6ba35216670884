"""The reader of tables: CSV in any common dialect, Parquet, Excel, JSON lines, and lists of names.

:func:`sniff` detects the format from the first bytes of a file, never from its ending alone. :func:`read_table` reads
a whole table, :func:`scan_table` a large one lazily, :func:`read_list` a text file with one name per line. polars is
imported when a table is read.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from linnaea.archives import check_gzip, explain_broken, gunzip, iter_unpacked
from linnaea.errors import LinnaeaError, UsageError
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.storage import atomic_path, check_regular, explain_os_errors, open_regular

if TYPE_CHECKING:
    import polars as pl

Frame = TypeVar("Frame", "pl.DataFrame", "pl.LazyFrame")

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".parquet", ".xlsx", ".csv.gz", ".tsv.gz")
"""Endings of files that are read as tables where a list of names is accepted as well."""

WRITTEN_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Endings of the tables that :func:`write_table` writes."""

SEPARATORS = (",", ";", "\t", "|")

_HEAD_BYTES = 1 << 20
_SNIFFED_CHARACTERS = 1 << 16
_LARGE = 1 << 26
"""Bytes from which a text file is read in blocks where that is possible."""
_ROWS_AT_ONCE = 50_000
_CHECKED_BYTES = 1 << 28
"""Bytes of a large file that are checked for UTF-8 before it is scanned."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0", "Excel 97 (.xls); save it as .xlsx or CSV"),
    (b"%PDF", "a PDF"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
)
_ZIPPED: tuple[tuple[str, str], ...] = (
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb); save it as .xlsx or CSV"),
    ("content.xml", "an OpenDocument file (.ods); save it as .xlsx or CSV"),
    ("word/document.xml", "a Word document"),
    ("", "a ZIP archive; unpack it first"),
)
"""The kind of an archive, by a member that it has."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """The format of a file, as detected by :func:`sniff`."""

    kind: Literal["text", "parquet", "excel", "json lines"]
    encoding: str = "utf-8"
    """Python's name of the encoding; ``utf-8`` if the file can be read as it is."""
    separator: str = ","
    quote: str | None = '"'
    note: str = ""
    """A note for the user, such as a detected encoding."""


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
            rows, note = _read_excel(path)
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
def scan_table(path: Path, *, encoding: str | None = None) -> Iterator["pl.LazyFrame"]:
    """Yield a table of any size as a lazy frame; what a cell of a CSV cannot hold is text (:func:`_words`).

    The columns of a text file are text; rows with too many cells are cut. A text file that is not UTF-8 is copied as
    UTF-8 to the folder for temporary files, and the copy is removed at the end.

    Raises:
        LinnaeaError: the file does not exist or is not a table.
    """
    import polars as pl

    form = sniff(path, encoding=encoding)
    with explain_os_errors(path), explain_polars_errors(path), tempfile.TemporaryDirectory("linnaea-table") as scratch:
        if form.kind in ("parquet", "json lines"):
            table = scan_parquet(path) if form.kind == "parquet" else _scan_json_lines(path)
            yield table.with_columns(_words(table.collect_schema()))
        elif form.kind == "excel":
            yield read_table(path).rows.lazy()
        else:
            found = form.encoding
            if found == "utf-8" and not _is_utf8(path):
                found = "cp1252"
                _say(path, _GUESSED)
            if _is_packed(path):
                check_gzip(path)
            utf8 = path if found == "utf-8" else _transcode(path, found, Path(scratch) / "table")
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
        text, note = _decode(path, form)
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


def _say(path: Path, note: str) -> None:
    if note:
        _log.warning("%s: %s", path, note)


# Formats.


def sniff(path: Path, *, encoding: str | None = None, empty: bool = False) -> TableFormat:
    """Detect the format of a table from its first million bytes.

    Args:
        path: the file.
        encoding: the declared encoding of the file.
        empty: whether an empty file is accepted.

    Raises:
        LinnaeaError: the file does not exist, is empty, or is not a table; the message names its format.
        UsageError: ``encoding`` is not the name of an encoding.
    """
    with explain_os_errors(path):
        if not path.exists():
            raise LinnaeaError(f"{path}: no such file")
        check_regular(path)
        packed, head, whole = _read_head(path)
    if head.startswith(b"PAR1"):
        return TableFormat(kind="parquet")
    if what := _kind_of_bytes(path, head):
        if what == "excel":
            return TableFormat(kind="excel")
        raise LinnaeaError(f"{path}: cannot be read as a table: this is {what}")
    if not head.strip() and not empty:
        raise LinnaeaError(f"{path}: cannot be read as a table: the file is empty; a table needs a header")
    found, note = _find_encoding(head, whole, encoding)
    text = codecs.getincrementaldecoder(found)("replace").decode(head, final=whole).removeprefix("\ufeff")
    suffix = (path.with_suffix("") if packed else path).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return TableFormat(kind="json lines")
    if what := _kind_of_text(text):
        raise LinnaeaError(f"{path}: cannot be read as a table: this is {what}")
    separator = _find_separator(text[:_SNIFFED_CHARACTERS], suffix, whole=whole and len(text) <= _SNIFFED_CHARACTERS)
    quote = '"' if separator != "\t" or _quotes_cells(text, whole=whole) else None
    plain = found == "utf-8" and ("\n" in text or "\r" not in text)
    _say(path, note)
    return TableFormat(kind="text", encoding="utf-8" if plain else found if found != "utf-8" else "utf-8-sig",
                       separator=separator, quote=quote, note=note)  # fmt: skip


def _is_packed(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(2) == b"\x1f\x8b"


def _read_head(path: Path) -> tuple[bool, bytes, bool]:
    """Return whether the file is gzipped, its first bytes, and whether these are the whole file."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with explain_broken(path), gzip.open(path) if packed else path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        return packed, head, not stream.read(1)


def _kind_of_bytes(path: Path, head: bytes) -> str:
    """Return the name of a binary format; ``excel`` for a readable workbook, ``""`` for a possible text."""
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        except zipfile.BadZipFile:
            return "a damaged ZIP archive or Excel file"
        if "xl/workbook.xml" in members:
            return "excel"
        return next(what for member, what in _ZIPPED if not member or member in members)
    return next((what for magic, what in _MAGIC if head.startswith(magic)), "")


def _kind_of_text(text: str) -> str:
    """Return the name of a text format that is not a table, or ``""`` for a possible table."""
    start = text[:1000].lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "HTML"
    if start.startswith("<?xml"):
        return "XML"
    if re.match(r'\{\s*"|\[\s*[\[{"]', start):
        return "JSON"
    controls = sum(character < " " and character not in "\t\n\v\f\r\0" for character in text[:4096])
    nulls = text.count("\0", 0, 4096)
    if controls + nulls > 0.02 * len(text[:4096]):
        return "binary data"
    return ""


_GUESSED = "read as Windows-1252, because it is not UTF-8"


def _find_encoding(head: bytes, whole: bool, declared: str | None) -> tuple[str, str]:
    """Return the encoding of a text, and a note about it."""
    if declared:
        try:
            name = codecs.lookup(declared).name
        except LookupError:
            raise UsageError(f"{declared!r} is not an encoding; give one such as utf-8, cp1252 or utf-16") from None
        return ("utf-8" if name in ("utf-8", "ascii", "utf-8-sig") else name), ""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32", ""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", ""
    pairs = max(len(head) // 2, 1)
    even, odd = head[::2].count(0) / pairs, head[1::2].count(0) / pairs
    if max(even, odd) > 0.4 and min(even, odd) < 0.1:
        return ("utf-16-le" if odd > even else "utf-16-be"), "read as UTF-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return "cp1252", _GUESSED
    return "utf-8", ""


def _find_separator(text: str, suffix: str, *, whole: bool) -> str:
    """Return the separator with which most rows of the head have as many cells as the header, and at least two."""
    usual = "\t" if suffix in (".tsv", ".tab", ".txt") else ","
    best, most = usual, (0.0, False, 0)
    for separator in SEPARATORS:
        widths = _widths(text, separator, whole=whole)
        if not widths or widths[0] < 2:
            continue
        fits = sum(width == widths[0] for width in widths) / len(widths)
        if (score := (fits, separator == usual, widths[0])) > most:
            best, most = separator, score
    return best


def _widths(text: str, separator: str, *, whole: bool) -> list[int]:
    """Return the number of cells of every row, with quotes respected; the last row counts only if ``whole``."""
    csv.field_size_limit(2**27)
    try:
        widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    except csv.Error:
        return []
    return widths if whole or len(widths) < 2 else widths[:-1]


_CELL_OPENED = re.compile(r'(?:^|\t)"', re.MULTILINE)
_CELL_QUOTED = re.compile(r'(?:^|\t)"[^"]*(?:""[^"]*)*"(?=\t|\r?$)', re.MULTILINE)


def _quotes_cells(text: str, *, whole: bool) -> bool:
    """Return whether quotes enclose cells of a tab-separated text; otherwise they are ordinary characters."""
    rest, n_quoted = _CELL_QUOTED.subn("\t", text)
    return n_quoted > 0 and len(_CELL_OPENED.findall(rest)) <= (0 if whole else 1)


# Reading.


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
        if _is_packed(path):
            check_gzip(path)
        try:
            return pl.read_csv(path, glob=False, **options), None, form.note  # type: ignore[arg-type]
        except pl.exceptions.PolarsError:
            pass
    text, note = _decode(path, form)
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

    if form.kind != "text" or form.encoding != "utf-8" or path.stat().st_size < _LARGE or _is_packed(path):
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


def _decode(path: Path, form: TableFormat) -> tuple[str, str]:
    """Return the whole text and the note; every byte sequence can be decoded."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gunzip(path)
    encoding, note = form.encoding, form.note
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding in ("utf-8", "utf-8-sig"):
            encoding, note = "cp1252", _GUESSED
            _say(path, note)
        text = content.decode(encoding, errors="replace")
    text = text.removeprefix("\ufeff").replace("\0", "")
    return text if "\n" in text else text.replace("\r", "\n"), note


def _is_utf8(path: Path) -> bool:
    """Return whether a file is UTF-8, as far as it is checked."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        for block in _blocks(path):
            decoder.decode(block)
            done += len(block)
            if done > _CHECKED_BYTES:
                break
    except UnicodeDecodeError:
        return False
    return True


def _scan_json_lines(path: Path) -> "pl.LazyFrame":
    """Return a file of JSON lines; polars can only take the path as a pattern."""
    import polars as pl

    if not set("*?[") & set(str(path)):
        return pl.scan_ndjson(path, infer_schema_length=None)
    with open_regular(path) as stream:
        return pl.read_ndjson(stream, infer_schema_length=None).lazy()


def as_utf8(path: Path, declared: str, target: Path) -> Path:
    """Return the path of a text file in UTF-8: itself, or a copy at ``target`` if it has another encoding.

    Text that is valid UTF-8 is taken as such, whatever is ``declared``. Text that is declared as UTF-8 but is not is
    Windows-1252. A file whose lines end with carriage returns alone is copied as well.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        name = codecs.lookup(declared.strip()).name
    except LookupError:
        name = "utf-8"
    if not name.startswith(("utf-16", "utf-32")) and _is_utf8(path):
        return _transcode(path, "utf-8-sig", target) if _ends_lines_with_returns(path) else path
    return _transcode(path, "cp1252" if name in ("utf-8", "utf-8-sig", "ascii") else name, target)


def _transcode(path: Path, encoding: str, target: Path) -> Path:
    """Copy a text file as UTF-8; lines that end with a carriage return alone end with a line feed in the copy."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    with target.open("w", encoding="utf-8", newline="") as out:
        bare: bool | None = None
        for block in _blocks(path):
            text = decoder.decode(block)
            bare = "\r" in text and "\n" not in text if bare is None else bare
            out.write(text.replace("\r", "\n") if bare else text)
        out.write(decoder.decode(b"", final=True))
    return target


def _ends_lines_with_returns(path: Path) -> bool:
    """Return whether the lines of a file end with carriage returns alone, as old Macs wrote them."""
    head = next(_blocks(path), b"")
    return b"\r" in head and b"\n" not in head


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as stream:
        while block := stream.read(_HEAD_BYTES):
            yield block


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


def _read_excel(path: Path) -> tuple["pl.DataFrame", str]:
    """Return the first sheet with every cell as text, and a note if there are other sheets."""
    import fastexcel

    _check_workbook(path)
    try:
        book = fastexcel.read_excel(path)
        rows = book.load_sheet(0, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise LinnaeaError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from error
    first, *others = book.sheet_names
    note = f"read the first sheet, {first!r}; {len(others)} more ignored" if others else ""
    _say(path, note)
    return rows, note
