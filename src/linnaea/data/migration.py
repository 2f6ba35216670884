"""Migration of a data set to a new version of the taxonomy: names and ids change, pictures do not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.data.shards import read_manifest, read_tables, write_parquet
from linnaea.errors import LinnaeaError, UsageError
from linnaea.exchange import hold_output, link_others, replaced_folder
from linnaea.parquet import read_parquet
from linnaea.storage import write_atomically
from linnaea.tables import check_table_name, match_columns, need_columns, read_table, with_words, write_table
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.migrate import Migration, count_statuses, migrate_labels, migrate_taxa

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What :func:`migrate` did."""

    output: Path
    """The migrated table or data set."""
    counts: dict[str, int]
    """Labels of a table, or taxa of a data set, by status."""


def migrate(
    source: str | Path,
    *,
    old: str | Checklist,
    new: str | Checklist,
    output: str | Path | None = None,
    column: str = "",
) -> Migrated:
    """Migrate the labels of a table, or the taxa of a data set, from one checklist to another.

    ``source`` is a table (CSV, TSV, ``.xlsx`` or Parquet), which needs an ``output``, or the folder of a data set,
    which is changed in place without one. ``column`` holds the labels of a table; it is not needed if columns are named
    after ranks. Pictures are not changed.

    Raises:
        UsageError: A table has no ``output``, the output's type is unknown, or there is no such column.
        LinnaeaError: Something cannot be read, or the data set was migrated this way before.
    """
    path, target = Path(source), None if output is None else Path(output)
    if path.is_dir():
        counts = migrate_data_set(path, _between(old, new), output=target)
        return Migrated(output=target or path, counts=counts)
    if target is None:
        raise UsageError("--output is required to migrate a table; give --output FILE")
    check_table_name(target)
    table, headers = _read_labels(path, column)
    result = migrate_labels(table, _between(old, new), column=column)
    write_table(result.rename(headers), target)
    return Migrated(output=target, counts=count_statuses(result))


def _between(old: str | Checklist, new: str | Checklist) -> Migration:
    first, second = (one if isinstance(one, Checklist) else load_checklist(one) for one in (old, new))
    return Migration.between(first, second)


def _read_labels(path: Path, column: str) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the table with the column names of the migration, and a dict from those names to the file's."""
    table = read_table(path, as_text=False).rows
    known = match_columns(table.columns, (column, *NAME_COLUMNS))
    table = table.rename(known)
    need_columns(table.columns, path, column)
    names = table.select(name for name in table.columns if name in (column, *NAME_COLUMNS))
    return table.with_columns(with_words(names)), {ours: theirs for theirs, ours in known.items()}


def migrate_data_set(directory: Path, migration: Migration, *, output: Path | None = None) -> dict[str, int]:
    """Migrate a data set to a new version of the taxonomy, and return the number of taxa per status.

    This rewrites ``taxa.parquet``, the ids in ``index.parquet`` and ``names.parquet``, and
    ``taxonomy_history.parquet``; no picture is changed. The new data set is made of these tables and
    hard links, beside the old one. It takes the place of the old one, or of ``output``, in one step.

    Raises:
        LinnaeaError: the data set is not finished, ``output`` holds something else, or another command writes there.
    """
    target = output or directory
    with hold_output(target, kind="command"):
        source = _choose_source(directory, target)
        manifest = _read_manifest(source)
        versions = {"from": migration.from_version, "to": migration.to_version}
        done = manifest.get("taxonomy_migrations", [])
        if done and {key: done[-1][key] for key in versions} == versions:
            if not (target / _MANIFEST).exists():
                _write(source, target, {}, manifest)
            return dict(done[-1]["counts"])
        tables, counts = _migrate_tables(source, migration)
        manifest["taxonomy_migrations"] = [*done, {**versions, "counts": counts}]
        _write(source, target, tables, manifest)
    return counts


def _choose_source(directory: Path, target: Path) -> Path:
    """Return the data set to migrate: ``target`` if an earlier command has put the same data set there."""
    if target.resolve() == directory.resolve() or not target.exists() or not any(target.iterdir()):
        return directory
    if (target / _MANIFEST).exists():
        first, second = (_read_manifest(folder).get("fingerprint", "") for folder in (directory, target))
        if first == second:
            return target
    raise LinnaeaError(f"{target}: holds something else; choose another --output or remove it")


def _migrate_tables(directory: Path, migration: Migration) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    """Return the tables that change, by name, and the number of taxa per status."""
    index, taxa = read_tables(directory)
    result = migrate_taxa(taxa, migration)
    tables = {"taxa": result.taxa, "index": _with_new_ids(index, result.new_id), "taxonomy_history": result.history}
    if (directory / "taxonomy_history.parquet").exists():
        earlier = _with_new_ids(read_parquet(directory / "taxonomy_history.parquet"), result.new_id)
        tables["taxonomy_history"] = pl.concat([earlier, result.history])
    if (directory / "names.parquet").exists():
        tables["names"] = _with_new_ids(read_parquet(directory / "names.parquet"), result.new_id)
    return tables, dict(result.counts)


def _write(source: Path, target: Path, tables: Mapping[str, pl.DataFrame], manifest: Mapping[str, Any]) -> None:
    """Put a data set of the new tables and the other files of ``source`` in the place of ``target``, in one step."""
    with replaced_folder(target, keep_others=False) as new:
        for name, table in tables.items():
            write_parquet(table, new / f"{name}.parquet")
        write_atomically(new / _MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        link_others(source, new)


def _with_new_ids(table: pl.DataFrame, new_id: npt.NDArray[np.int32]) -> pl.DataFrame:
    return table.with_columns(pl.Series("taxon_id", new_id, pl.Int32).gather(table["taxon_id"]))


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / _MANIFEST
    if (directory / "bank.json").exists():  # of linnaea.predict.labels
        raise LinnaeaError(f"{directory}: a label bank, not a data set; `linnaea labels update {directory} --from OLD"
                           " --to NEW` migrates it")  # fmt: skip
    if not path.exists():
        raise LinnaeaError(f"{directory}: not a finished data set (no {_MANIFEST}); see `linnaea data build`")
    return read_manifest(directory)
