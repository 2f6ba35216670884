"""Darwin Core Archives: the tables that ``meta.xml`` describes, read as text columns named after their terms."""

import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.storage import read_regular, resolve_inside
from linnaea.tables.encodings import as_utf8

ROWS_AT_ONCE = 50_000
NULL_MARKS = ("\\N", "NULL", "null", "\\\\N")
"""Cells that databases write for a missing value."""


@dataclass(frozen=True, kw_only=True)
class ArchivePart:
    """One table of a Darwin Core Archive, as ``meta.xml`` describes it (its core or an extension)."""

    row_type: str
    paths: tuple[Path, ...]
    """The files of the table, in order."""
    separator: str
    quote: str | None
    skip: int
    """Number of header lines in each file."""
    key: int
    """Index of the column that identifies a row of the core; -1 if there is none."""
    columns: tuple[tuple[int, str], ...]
    """Column index and last part of the term's URI (``scientificName``); a term may have several columns."""
    defaults: Mapping[str, str]
    """The value of a term for empty cells, and for every row of a term without a column."""
    encoding: str = "utf-8"
    """The declared encoding."""

    def missing(self) -> str:
        """Return which file is missing, or ``""`` if all are there."""
        name = next((path.name for path in self.paths if not path.is_file()), "" if self.paths else None)
        return "" if name == "" else f"the file {name!r} that it names is missing"

    def iter_blocks(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in blocks of text columns: the terms, ``_id``, and the row number ``_row``.

        Null marks are empty cells. A file that is not in the declared encoding is read in its own.

        Raises:
            LinnaeaError: a file is missing or cannot be read as a table.
        """
        done = 0
        for path in self.paths:
            for block in self._iter_file(path):
                rows = pl.Series("_row", range(done, done + block.height)).cast(pl.String)
                done += block.height
                yield block.with_columns(rows)

    def read(
        self, terms: Sequence[str] | None = None, change: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    ) -> pl.DataFrame:
        """Return all rows (:meth:`iter_blocks`), of some terms or of all, after a ``change`` of each block.

        Quotes that enclose no cell are characters, in a table whose cells are separated by tabs.

        Raises:
            LinnaeaError: a file is missing or cannot be read as a table.
        """
        try:
            return self._read(terms, change)
        except LinnaeaError:
            if self.quote is None or self.separator != "\t":
                raise
            quoted = rf"^{re.escape(self.quote)}(.*){re.escape(self.quote)}$"
            plain = pl.all().str.replace(quoted, "$1")
            return replace(self, quote=None)._read(
                terms, lambda block: change(block.with_columns(plain)) if change else block.with_columns(plain)
            )

    def _read(self, terms: Sequence[str] | None, change: Callable[[pl.DataFrame], pl.DataFrame] | None) -> pl.DataFrame:
        empty = pl.DataFrame(schema=dict.fromkeys((*(terms or self.terms), "_id", "_row"), pl.String))
        blocks = chain([empty], (block.select(empty.columns) for block in self.iter_blocks()))
        return pl.concat([change(block) if change else block for block in blocks])

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of the table, with those that have a default only."""
        return tuple(dict.fromkeys((*(term for _, term in self.columns), *self.defaults)))

    def _iter_file(self, path: Path) -> Iterator[pl.DataFrame]:
        if not path.is_file():
            raise LinnaeaError(f"{path}: no such file, but meta.xml names it")
        try:
            with tempfile.TemporaryDirectory("linnaea-archive") as scratch:
                utf8 = as_utf8(path, self.encoding, Path(scratch) / "table")
                table = pl.scan_csv(utf8, glob=False, separator=self.separator, quote_char=self.quote, has_header=False,
                                    skip_rows=self.skip, infer_schema=False, encoding="utf8-lossy",
                                    truncate_ragged_lines=True)  # fmt: skip
                for block in table.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                    yield self._name_columns(block)
        except pl.exceptions.NoDataError:  # a header and nothing else
            return
        except (OSError, pl.exceptions.PolarsError) as error:
            raise LinnaeaError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from error

    def _name_columns(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of a block by their terms; of several columns of a term the first that says anything."""

        def cells(index: int) -> pl.Expr:
            text = pl.nth(index).fill_null("")
            return pl.when(text.is_in(NULL_MARKS)).then(pl.lit("")).otherwise(text)

        columns: dict[str, pl.Expr] = {}
        for index, term in self.columns:
            if index < block.width:
                first = columns.get(term)
                columns[term] = (
                    cells(index) if first is None else pl.when(first != "").then(first).otherwise(cells(index))
                )
        for term, value in self.defaults.items():
            own = columns.get(term, pl.lit(""))
            columns[term] = pl.when(own != "").then(own).otherwise(pl.lit(value))
        by_name = next((columns[name] for name in ("taxonID", "occurrenceID", "id") if name in columns), pl.lit(""))
        key = cells(self.key) if 0 <= self.key < block.width else by_name
        named = {term: columns.get(term, pl.lit("")) for term in self.terms if term != "_id"}
        return block.select(*(column.cast(pl.String).alias(term) for term, column in named.items()), key.alias("_id"))


def describe_archive(meta: Path) -> tuple[ArchivePart, list[ArchivePart]]:
    """Return the core and the extensions of an archive.

    The files of extensions may be missing (:meth:`ArchivePart.missing`).

    Raises:
        LinnaeaError: ``meta.xml`` is missing or not valid, or a file of the core is missing.
    """
    try:
        root = ET.fromstring(read_regular(meta))
    except (OSError, ET.ParseError) as error:
        raise LinnaeaError(f"{meta}: not a description of an archive ({error})") from error
    spaces = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    core = root.find(f"{spaces}core")
    if core is None:
        raise LinnaeaError(f"{meta}: no core; give a Darwin Core Archive with a Taxon core")
    main = _describe(core, spaces, meta)
    if missing := main.missing():
        raise LinnaeaError(f"{meta}: {missing}")
    return main, [_describe(one, spaces, meta) for one in root.findall(f"{spaces}extension")]


def _describe(part: ET.Element, spaces: str, meta: Path) -> ArchivePart:
    locations = [one.text.strip() for one in part.findall(f"{spaces}files/{spaces}location") if one.text]
    key = part.find(f"{spaces}id") if part.tag.endswith("core") else part.find(f"{spaces}coreid")
    fields = [
        (int(one.get("index") or -1), one.get("term", "").rsplit("/", 1)[-1].rsplit("#", 1)[-1], one.get("default", ""))
        for one in part.findall(f"{spaces}field")
    ]
    return ArchivePart(
        row_type=part.get("rowType", "").rsplit("/", 1)[-1].rsplit("#", 1)[-1],
        paths=tuple(resolve_inside(meta.parent, location) for location in locations),
        separator=_character(part.get("fieldsTerminatedBy") or ","),
        quote=_character(part.get("fieldsEnclosedBy") or "") or None,
        skip=int(part.get("ignoreHeaderLines") or 0),
        key=-1 if key is None else int(key.get("index") or 0),
        columns=tuple((index, term) for index, term, _ in fields if index >= 0),
        defaults={term: value for _, term, value in fields if value},
        encoding=part.get("encoding") or "utf-8",
    )


def _character(text: str) -> str:
    r"""Return a separator or quote that may be written as an escape (``\t``, ``\u0009``)."""
    return text.encode("ascii", "backslashreplace").decode("unicode_escape") if text.startswith("\\") else text
