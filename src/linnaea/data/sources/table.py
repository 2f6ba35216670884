"""A table of photographs: CSV, TSV or Parquet with a path column and label columns."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import LICENCE_FACTS, Record, Rejected
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.names import taxon_from_label
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon


def read_table(path: Path) -> pl.DataFrame:
    """A CSV, TSV or Parquet file with every column as text, missing cells as ``""``.

    Raises:
        LinnaeaError: there is no such file, or it is no table.
    """
    try:
        if path.suffix.lower() == ".parquet":
            table = pl.read_parquet(path).cast(pl.String, strict=False)
        else:
            separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
            table = pl.read_csv(path, separator=separator, infer_schema=False)
    except FileNotFoundError:
        raise LinnaeaError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from error
    return table.fill_null("")


def need_columns(table: pl.DataFrame, path: Path, *columns: str) -> None:
    """Raise a :class:`UsageError` that names the missing columns and those there are."""
    if missing := [column for column in columns if column and column not in table.columns]:
        raise UsageError(f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(table.columns)}")


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Rows of a table; columns named after ranks, ``scientific_name`` and ``common_name`` are used where present.

    Where a row has no rank filled, its label (``label_column``) is read by ``label_to_taxon``.
    """

    table: Path
    root: Path
    path_column: str
    label_column: str = ""
    split_column: str = ""
    split_table: Path | None = None
    """A second table: the path column and the split of each picture in the one column beside it."""
    group_column: str = ""
    source_column: str = "source"
    label_to_taxon: Callable[[str], Taxon | str] = taxon_from_label

    @property
    def name(self) -> str:
        return self.table.stem

    def describe(self) -> dict[str, str]:
        files = [self.table] + ([self.split_table] if self.split_table else [])
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        columns = (self.path_column, self.label_column, self.split_column, self.group_column)
        return {"kind": "table", "table": str(self.table), "root": str(self.root), "sha256": " ".join(digests),
                "columns": " ".join(columns)}  # fmt: skip

    def records(self) -> Iterator[Record | Rejected]:
        table = read_table(self.table)
        columns = (self.path_column, self.label_column, self.split_column, self.group_column)
        need_columns(table, self.table, *columns)
        if not self.label_column and not {*RANK_LABELS, "scientific_name", "common_name"} & set(table.columns):
            raise UsageError(
                f"{self.table}: give --label-column, or a table with columns named after ranks,"
                f" scientific_name or common_name; it has {', '.join(table.columns)}"
            )
        splits = self._read_split_table()
        taxa: dict[tuple[str, ...], Taxon | str] = {}
        name_columns = [
            c for c in (*RANK_LABELS, "scientific_name", "common_name", self.label_column) if c in table.columns
        ]
        for number, row in enumerate(table.iter_rows(named=True), start=2):
            yield self._read_row(number, row, splits, taxa, name_columns)

    def _read_split_table(self) -> dict[str, str] | None:
        if self.split_table is None:
            return None
        table = read_table(self.split_table)
        need_columns(table, self.split_table, self.path_column)
        others = [column for column in table.columns if column != self.path_column]
        if len(others) != 1:
            raise UsageError(f"{self.split_table}: needs exactly one column beside {self.path_column!r}, the split")
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
        where = {"source": source, "record_id": path or f"row {number}", "location": str(self.root / path)}
        if not path:
            return Rejected(**where, reason=f"row {number} has no path")
        split = row[self.split_column] if self.split_column else ""
        if splits is not None:
            if path not in splits:
                return Rejected(**where, reason="is not in the split table")
            split = splits[path]
        names = tuple(row[column] for column in name_columns)
        if names not in taxa:
            taxa[names] = self._read_names(row)
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

    def _read_names(self, row: Mapping[str, Any]) -> Taxon | str:
        ranks = {label: _tidy(row.get(label, "")) for label in RANK_LABELS}
        common_name = _tidy(row.get("common_name", ""))
        if any(ranks.values()):
            if ranks["species"].startswith(f"{ranks['genus']} ") and ranks["genus"]:
                ranks["species"] = ranks["species"].removeprefix(f"{ranks['genus']} ")
            try:
                return Taxon.of(ranks, common_name=common_name)
            except ValueError as error:
                return str(error)
        for column in ("scientific_name", self.label_column):
            if label := _tidy(row.get(column, "")):
                taxon = self.label_to_taxon(label)
                if isinstance(taxon, Taxon) and common_name and not taxon.common_name:
                    return Taxon(taxon.lineage, common_name=common_name, authorship=taxon.authorship)
                return taxon
        return Taxon.of(common_name=common_name) if common_name else "no name in any name column"


def _tidy(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
