"""Migration of a data set to a new version of the taxonomy: names and ids change, pictures do not."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.data.shards import read_manifest, write_parquet
from linnaea.errors import LinnaeaError, UsageError
from linnaea.parquet import read_parquet
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.tables import check_table_name, match_columns, need_columns, read_table, write_table
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.migrate import Migration, count_statuses, migrate_labels, migrate_taxa

PENDING = ".migration"
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
    return table, {ours: theirs for theirs, ours in known.items()}


def migrate_data_set(directory: Path, migration: Migration, *, output: Path | None = None) -> dict[str, int]:
    """Migrate a data set to a new version of the taxonomy, and return the number of taxa per status.

    This rewrites ``taxa.parquet``, the ids in ``index.parquet`` and ``names.parquet``, and
    ``taxonomy_history.parquet``; no picture is changed. With ``output`` the result is another folder whose shards are
    hard links. A migration that was killed leaves a data set without a manifest, which no reader opens; the same
    command finishes it.

    Raises:
        LinnaeaError: the data set is not finished, it was migrated this way before, or ``output`` exists.
    """
    if output is not None and output.resolve() != directory.resolve():
        directory = _linked(directory, output)
    finish_pending(directory)
    manifest = _read_manifest(directory)
    versions = {"from": migration.from_version, "to": migration.to_version}
    done = manifest.get("taxonomy_migrations", [])
    if done and {key: done[-1][key] for key in versions} == versions:
        return dict(done[-1]["counts"])
    with explain_os_errors(directory):
        index, taxa = read_parquet(directory / "index.parquet"), read_parquet(directory / "taxa.parquet")
    result = migrate_taxa(taxa, migration)
    history = result.history
    if (directory / "taxonomy_history.parquet").exists():
        earlier = read_parquet(directory / "taxonomy_history.parquet")
        history = pl.concat([_with_new_ids(earlier, result.new_id), history])
    manifest["taxonomy_migrations"] = [*done, {**versions, "counts": dict(result.counts)}]
    tables = {"taxa": result.taxa, "index": _with_new_ids(index, result.new_id), "taxonomy_history": history}
    if (directory / "names.parquet").exists():
        tables["names"] = _with_new_ids(read_parquet(directory / "names.parquet"), result.new_id)
    _stage(directory, tables, manifest)
    finish_pending(directory)
    return dict(result.counts)


def _with_new_ids(table: pl.DataFrame, new_id: npt.NDArray[np.int32]) -> pl.DataFrame:
    return table.with_columns(pl.Series("taxon_id", new_id, pl.Int32).gather(table["taxon_id"]))


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / _MANIFEST
    if not path.exists():
        raise LinnaeaError(f"{directory}: not a finished data set (no {_MANIFEST}); see `linnaea data build`")
    return read_manifest(directory)


def _stage(directory: Path, tables: Mapping[str, pl.DataFrame], manifest: Mapping[str, Any]) -> None:
    """Write all new files into a folder beside the old ones; the migration is committed when it is renamed."""
    staged = directory / f"{PENDING}.partial"
    with explain_os_errors(directory):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, table in tables.items():
            write_parquet(table, staged / f"{name}.parquet")
        write_atomically(staged / _MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
        staged.rename(directory / PENDING)


def finish_pending(directory: Path) -> bool:
    """Install the files of a killed migration that was committed; return whether there was one.

    The manifest, without which a data set does not open, is removed first and written last.
    """
    pending = directory / PENDING
    if not pending.exists():
        return False
    with explain_os_errors(directory):
        if (pending / _MANIFEST).exists():
            (directory / _MANIFEST).unlink(missing_ok=True)
            for path in sorted(pending.glob("*.parquet")):
                path.replace(directory / path.name)
            (pending / _MANIFEST).replace(directory / _MANIFEST)
        shutil.rmtree(pending)
    return True


def _linked(source: Path, target: Path) -> Path:
    """Make ``target`` the same data set, with a hard link for every file, in one step."""
    manifest = _read_manifest(source)
    finish_pending(target)
    if target.exists() and any(target.iterdir()):
        if (target / _MANIFEST).exists() and _read_manifest(target)["fingerprint"] == manifest["fingerprint"]:
            return target
        raise LinnaeaError(f"{target}: holds something else; choose another --output or remove it")
    partial = target.with_name(f".{target.name}.partial")
    with explain_os_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        for path in sorted(source.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts):
                place = partial / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.hardlink_to(path)
        partial.replace(target)
    return target
