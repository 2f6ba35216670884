"""Migration of a data set to a new version of the taxonomy: names and ids change, pictures do not."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.data.shards import write_parquet
from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.taxonomy.migrate import Migration, migrate_taxa

PENDING = ".migration"
_MANIFEST = "manifest.json"


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
        index, taxa = pl.read_parquet(directory / "index.parquet"), pl.read_parquet(directory / "taxa.parquet")
    result = migrate_taxa(taxa, migration)
    history = result.history
    if (directory / "taxonomy_history.parquet").exists():
        earlier = pl.read_parquet(directory / "taxonomy_history.parquet")
        history = pl.concat([_with_new_ids(earlier, result.new_id), history])
    manifest["taxonomy_migrations"] = [*done, {**versions, "counts": dict(result.counts)}]
    tables = {"taxa": result.taxa, "index": _with_new_ids(index, result.new_id), "taxonomy_history": history}
    if (directory / "names.parquet").exists():
        tables["names"] = _with_new_ids(pl.read_parquet(directory / "names.parquet"), result.new_id)
    _stage(directory, tables, manifest)
    finish_pending(directory)
    return dict(result.counts)


def _with_new_ids(table: pl.DataFrame, new_id: npt.NDArray[np.int32]) -> pl.DataFrame:
    return table.with_columns(pl.Series("taxon_id", new_id, pl.Int32).gather(table["taxon_id"]))


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / _MANIFEST
    if not path.exists():
        raise LinnaeaError(f"{directory}: not a finished data set (no {_MANIFEST}); see `linnaea data build`")
    manifest: dict[str, Any] = json.loads(path.read_text())
    return manifest


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
