"""A table of photographs with a path column and label columns, in any format that :mod:`linnaea.tables` reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import LICENCE_FACTS, Record, Rejected
from linnaea.data.sources.occurrences import ABSENT, is_absence
from linnaea.errors import UsageError
from linnaea.storage import find_spelled, sha256_of_file
from linnaea.tables import find_column, need_columns, read_table, shorten_columns
from linnaea.taxonomy.columns import NAME_COLUMNS, QUALIFIER_HEADERS, match_name_columns
from linnaea.taxonomy.row import LabelReader, class_from_label, read_taxon, with_doubt
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.votes import count_votes, is_votes


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The rows of a table; it uses rank columns, ``scientific_name`` and ``common_name`` if they exist.

    If a row has no rank, ``label_to_taxon`` reads its label (``label_column``). Rows that Darwin Core's terms
    ``occurrenceStatus`` or ``individualCount`` call an absence are rejected. Of an export of Zooniverse's votes each
    subject is a row, with the name that most votes give.
    """

    table: Path
    root: Path
    path_column: str
    label_column: str = ""
    split_column: str = ""
    split_table: Path | None = None
    """A second table with two columns: the path column and the split of each picture."""
    group_column: str = ""
    source_column: str = "source"
    label_to_taxon: LabelReader = class_from_label

    def __post_init__(self) -> None:
        if not self.path_column:
            raise UsageError("path_column is empty; name the column with the photographs' paths")

    @property
    def name(self) -> str:
        return self.table.stem

    def describe(self) -> dict[str, str]:
        files = [self.table] + ([self.split_table] if self.split_table else [])
        digests = [sha256_of_file(path) for path in files]
        columns = (self.path_column, self.label_column, self.split_column, self.group_column)
        return {"kind": "table", "table": str(self.table), "root": str(self.root), "sha256": " ".join(digests),
                "columns": " ".join(columns)}  # fmt: skip

    def records(self) -> Iterator[Record | Rejected]:
        columns = (self.path_column, self.label_column, self.split_column, self.group_column)
        known = (*columns, self.source_column, *NAME_COLUMNS, *LICENCE_FACTS)
        table = read_table(self.table, columns=known).rows
        if is_votes(table.columns) and self.path_column not in table.columns and not self.label_column:
            table = count_votes(table).rename({"filepath": self.path_column, "label": "scientific_name"})
        need_columns(table.columns, self.table, *columns)
        table = table.rename(match_name_columns(table.columns, columns))
        table = self._with_doubt(table).with_columns(_absence_in(table.columns).alias(_IS_ABSENT))
        if not self.label_column and not {*NAME_COLUMNS} & {*table.columns}:
            raise UsageError(
                f"{self.table}: give --label-column, or a table with rank columns,"
                f" scientific_name or common_name; it has {shorten_columns(table.columns)}"
            )
        splits = self._read_split_table()
        taxa: dict[tuple[str, ...], Taxon | str] = {}
        name_columns = [column for column in (*NAME_COLUMNS, self.label_column) if column in table.columns]
        for number, row in enumerate(table.iter_rows(named=True), start=2):
            yield self._read_row(number, row, splits, taxa, name_columns)

    def _with_doubt(self, table: pl.DataFrame) -> pl.DataFrame:
        qualifier = find_column(table.columns, *QUALIFIER_HEADERS)
        names = [c for c in dict.fromkeys(("scientific_name", self.label_column)) if qualifier and c in table.columns]
        return table.with_columns(with_doubt(pl.col(name), pl.col(qualifier)).alias(name) for name in names)

    def _read_split_table(self) -> dict[str, str] | None:
        if self.split_table is None:
            return None
        table = read_table(self.split_table, columns=(self.path_column,)).rows
        need_columns(table.columns, self.split_table, self.path_column)
        others = [column for column in table.columns if column != self.path_column]
        if len(others) != 1:
            raise UsageError(f"{self.split_table}: needs exactly one column besides {self.path_column!r}: the split")
        return dict(zip(table[self.path_column], table[others[0]], strict=True))

    def _read_row(
        self,
        number: int,
        row: Mapping[str, Any],
        splits: Mapping[str, str] | None,
        taxa: dict[tuple[str, ...], Taxon | str],
        name_columns: list[str],
    ) -> Record | Rejected:
        path = row[self.path_column]
        source = row.get(self.source_column) or self.name
        where = {"source": source, "record_id": path or f"row {number}", "location": str(find_spelled(self.root, path))}
        if not path:
            return Rejected(**where, reason=f"row {number} has no path")
        if row[_IS_ABSENT]:
            return Rejected(**where, reason=ABSENT)
        split = row[self.split_column] if self.split_column else ""
        if splits is not None:
            if path not in splits:
                return Rejected(**where, reason="is not in the split table")
            split = splits[path]
        names = tuple(row[column] for column in name_columns)
        if names not in taxa:
            taxa[names] = read_taxon(row, row.get(self.label_column, ""), self.label_to_taxon)
        taxon = taxa[names]
        if isinstance(taxon, str):
            return Rejected(**where, reason=taxon)
        facts = {name: row[name] for name in LICENCE_FACTS if row.get(name)}
        if self.label_column:
            facts["label"] = row[self.label_column]
        return Record(
            **where,
            taxon=taxon,
            group=row[self.group_column] if self.group_column else "",
            split=split,
            facts=facts,
        )


_IS_ABSENT = "says that nothing was there"


def _absence_in(columns: Sequence[str]) -> pl.Expr:
    """Return whether a row is an absence, by Darwin Core's columns if the table has them."""
    status, number = (find_column(columns, term) for term in ("occurrenceStatus", "individualCount"))
    return is_absence(pl.col(status) if status else pl.lit(""), pl.col(number) if number else pl.lit(""))
