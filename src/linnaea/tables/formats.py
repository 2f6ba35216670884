"""Detect the format of a table from its first bytes, never from its ending alone."""

import codecs
import csv
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from linnaea.archives import explain_broken, is_gzipped, open_unpacked
from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import check_regular, explain_os_errors
from linnaea.tables.encodings import BLOCK_BYTES, GUESSED, log_note

SEPARATORS = (",", ";", "\t", "|")

_SNIFFED_CHARACTERS = 1 << 16

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
    log_note(path, note)
    return TableFormat(kind="text", encoding="utf-8" if plain else found if found != "utf-8" else "utf-8-sig",
                       separator=separator, quote=quote, note=note)  # fmt: skip


def _read_head(path: Path) -> tuple[bool, bytes, bool]:
    """Return whether the file is gzipped, its first bytes, and whether these are the whole file."""
    with explain_broken(path), open_unpacked(path) as stream:
        head = stream.read(BLOCK_BYTES)
        return is_gzipped(path), head, not stream.read(1)


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
        return "cp1252", GUESSED
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
