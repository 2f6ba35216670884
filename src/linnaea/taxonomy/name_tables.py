"""Read tables with a column of names, and write them with the columns of their resolution.

A row that cannot be read (too many cells) is kept as far as possible, and reported; the other rows stay in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from linnaea.errors import UsageError
from linnaea.tables import find_column, read_list, read_table, with_words, write_table
from linnaea.taxonomy.columns import QUALIFIER_HEADERS, RESULT_COLUMNS, find_name_column
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.resolve import Status
from linnaea.taxonomy.row import read_binomials, with_doubt
from linnaea.taxonomy.votes import is_votes, read_choices


@dataclass(frozen=True, kw_only=True)
class NameTable:
    """An input table with its column of names and the known ranks of each row."""

    rows: pl.DataFrame
    names: pl.Series
    given: pl.DataFrame | None
    """Columns named after the ranks from kingdom to family, if there are any."""
    problems: pl.Series | None
    """[n_rows] the reason why a row could not be read, null for readable rows."""

    @property
    def n_unreadable(self) -> int:
        return 0 if self.problems is None else int(self.problems.is_not_null().sum())


def read_name_table(
    path: Path, column: str = "", *, likely: Sequence[str] = (), advice: str = "choose one with --column"
) -> NameTable:
    """Read a table (:func:`linnaea.tables.read_table`) or a text file with one name per line, and find its names.

    The names are in ``column``, in the only column, in ``scientific_name``, in the columns genus and species together,
    or in the first of ``likely`` that exists. Headers match in any case. ``advice`` says what to do if there is none.

    Raises:
        UsageError: The column does not exist, or no column was given and there are several.
        LinnaeaError: The file cannot be read.
    """
    is_list = path.suffix.lower() == ".txt"
    table = read_list(path) if is_list else read_table(path, as_text=False, keep_ragged=True)
    rows = with_words(table.rows)
    first = "scientific_name" if rows.width != 1 else rows.columns[0]
    found = find_column(rows.columns, column) if column else find_name_column(rows.columns, first)
    if column and not found:
        raise UsageError(f"{path}: no column {column!r}; there are {', '.join(rows.columns[:20])}")
    names = None if found else read_binomials(rows)
    if names is None:
        found = found or find_column(rows.columns, *likely)
        names = rows[found].cast(pl.String, strict=False) if found else None
    if names is None and is_votes(rows.columns):
        names = read_choices(rows[find_column(rows.columns, "annotations")])
    if names is None:
        raise UsageError(f"{path}: no column of names; {advice}: {', '.join(rows.columns[:20])}")
    if qualifier := find_column(rows.columns, *QUALIFIER_HEADERS):
        names = rows.select(with_doubt(pl.lit(names), pl.col(qualifier)).alias(names.name)).to_series()
    ranks = {rank: find_name_column(rows.columns, rank) for rank in RANK_LABELS[: int(Rank.FAMILY) + 1]}
    given = [pl.col(header).cast(pl.String).alias(rank) for rank, header in ranks.items() if header not in ("", found)]
    return NameTable(rows=table.rows, names=names, given=rows.select(given) if given else None, problems=table.problems)


def read_species_list(path: Path) -> pl.Series:
    """Read the names of a list of species: a text file with one name per line, or a table with a column of names.

    Rows without a name are left out.

    Raises:
        UsageError: The table has several columns, and none has the header of a name column.
        LinnaeaError: The file cannot be read.
    """
    advice = "write scientific_name above the one that has them"
    return read_name_table(path, likely=("species", "name", "label", "common_name"), advice=advice).names.drop_nulls()


def write_resolved(table: NameTable, resolved: pl.DataFrame, output: Path) -> pl.DataFrame:
    """Write the rows with the columns of their resolution; columns that the input already has get a prefix.

    Returns:
        The resolution as written, in which unreadable rows are rejected.
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
    write_table(both, output)
    return resolved
