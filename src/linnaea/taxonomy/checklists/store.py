"""A checklist as three tables: accepted taxa in depth-first order, their synonyms, their vernacular names.

Whatever a checklist looks like where it comes from (:mod:`~linnaea.taxonomy.checklists.source`), it becomes this one
form, is written to the cache as Arrow files and from then on memory-mapped: opening a checklist of a million species
takes well under a second.
"""

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from linnaea.errors import LinnaeaError
from linnaea.exchange import replaced_folder
from linnaea.progress import announce, announce_uncached
from linnaea.storage import cache_dir, check_regular, read_json
from linnaea.taxonomy.checklists.arrange import Checklist, make_checklist
from linnaea.taxonomy.checklists.source import EMBEDDED, read_checklist_source
from linnaea.taxonomy.keys import loose_vernacular_key, name_key, vernacular_key

__all__ = [
    "CatalogueEntry",
    "Checklist",
    "import_checklist",
    "list_checklists",
    "load_checklist",
    "make_checklist",
    "with_keys",
]

FORMAT = 10
"""The version of the tables. It increases when they change, so that older caches are read again from their source."""

TOLD_FROM_BYTES = 5_000_000
"""The size of a source from which a person at a terminal is told that it is being read."""

_log = logging.getLogger(__name__)

_TABLES = ("taxa", "synonyms", "vernaculars")


def with_keys(checklist: Checklist) -> Checklist:
    """Add the keys of all names as columns; cached checklists have them already."""
    loose, strict = loose_vernacular_key(pl.col("name")), vernacular_key(pl.col("name"))
    return replace(
        checklist,
        taxa=checklist.taxa.with_columns(key=name_key(pl.col("name"))),
        synonyms=checklist.synonyms.with_columns(key=name_key(pl.col("name"))),
        vernaculars=checklist.vernaculars.with_columns(strict=strict, loose=loose),
    )


# Names, files, cache.


def load_checklist(name_or_path: str) -> Checklist:
    """Open a checklist by name (``inat``, ``ncbi``, an imported one) or by file or folder.

    The first use of a source reads it (seconds to a minute); from then on its tables are memory-mapped.

    Raises:
        LinnaeaError: The name or file does not exist, or cannot be read as a checklist.
    """
    if (embedded := EMBEDDED.get(name_or_path)) is not None:
        paths = (embedded.path, *embedded.beside)
        return _cached(name_or_path, paths, lambda: make_checklist(embedded.read_records(name_or_path)))
    imported = _imported_dir(name_or_path)
    if imported is not None:
        return _open(imported)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        known = ", ".join(sorted({*EMBEDDED, *(entry.name for entry in list_checklists())}))
        raise LinnaeaError(f"{name_or_path!r} is neither a checklist ({known}) nor a file; import it or give its path")
    return _cached(path.stem, (path,), lambda: _read_source(path))


def import_checklist(path: Path, name: str) -> Checklist:
    """Read a checklist from ``path`` and keep it under ``name``, independent of the file from then on.

    Raises:
        LinnaeaError: ``name`` is that of an embedded checklist or not a plain word, or the file cannot be read or
            has no taxa.
    """
    if (
        name in EMBEDDED
        or name.startswith(".")
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise LinnaeaError(f"a checklist cannot be named {name!r}; use a plain word other than {', '.join(EMBEDDED)}")
    made = _read_source(path)
    _save(made, cache_dir() / "checklists" / "imported" / name, name, str(path))
    report = made.report
    del made  # its memory is free before the stored tables are mapped
    return replace(load_checklist(name), report=report)


def _read_source(path: Path) -> Checklist:
    """Read a checklist from a file or folder.

    Raises:
        LinnaeaError: It cannot be read or has no taxa.
    """
    made = make_checklist(read_checklist_source(path))
    if made.taxa.is_empty():
        why = "".join(f"; {line.strip()}" for line in made.report.lines()[:4]) if made.report else ""
        raise LinnaeaError(f"{path}: no taxon of a rank from kingdom to species could be read{why}")
    return made


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """One line of the list of checklists."""

    name: str
    version: str
    n_taxa: int
    origin: str
    """The source that it was read from."""


def list_checklists() -> list[CatalogueEntry]:
    """Return the embedded checklists (with counts once they have been opened) and the imported ones."""
    entries = []
    for name, embedded in EMBEDDED.items():
        try:
            path = embedded.path
        except LinnaeaError as error:
            entries.append(CatalogueEntry(name=name, version="", n_taxa=0, origin=str(error)))
            continue
        facts = _facts(_cache_folder(name, (path, *embedded.beside)))
        version, n_taxa = embedded.version, facts.get("n_taxa", 0)
        entries.append(CatalogueEntry(name=name, version=version, n_taxa=n_taxa, origin="embedded"))
    for folder in sorted((cache_dir() / "checklists" / "imported").glob("[!.]*/checklist.json")):
        damaged: dict[str, Any] = {"version": "", "n_taxa": 0, "origin": "damaged; import it again"}
        facts = damaged | _facts(folder.parent)
        entries.append(
            CatalogueEntry(
                name=folder.parent.name, version=facts["version"], n_taxa=facts["n_taxa"], origin=facts["origin"]
            )
        )
    return entries


def _imported_dir(name: str) -> Path | None:
    if "/" in name or name.startswith("."):
        return None
    folder = cache_dir() / "checklists" / "imported" / name
    return folder if (folder / "checklist.json").exists() else None


def _cache_folder(name: str, paths: Sequence[Path]) -> Path:
    """Return the folder of a cached source. Its name holds a hash of where the source is, and one of its state.

    The state is the sizes and times of the files, and the version of our format.
    """
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files_of(paths)]
    place, state = _short_hash(str(paths[0].resolve())), _short_hash(json.dumps([FORMAT, stats]))
    return cache_dir() / "checklists" / "read" / f"{name}-{place}-{state}"


def _files_of(paths: Sequence[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cached(name: str, paths: Sequence[Path], read: Callable[[], Checklist]) -> Checklist:
    folder = _cache_folder(name, paths)
    if (folder / "checklist.json").exists():
        with suppress(LinnaeaError):  # a damaged cache is made again
            return _open(folder)
    of_place = folder.name.rpartition("-")[0]
    for beginning in (of_place, name):  # as they are named now, and as they were before
        for older in folder.parent.glob(f"{escape(beginning)}-" + "?" * 16):
            shutil.rmtree(older, ignore_errors=True)
    if sys.stderr.isatty() and sum(file.stat().st_size for file in _files_of(paths)) >= TOLD_FROM_BYTES:
        announce(f"reading the checklist {name}, which takes up to a minute the first time")
    made = read()
    if made.report is not None and made.report.warning and name not in EMBEDDED:
        _log.warning("%s: %s; linnaea taxonomy checklists --add says why", paths[0], made.report.warning)
    try:
        _save(made, folder, name, str(paths[0]))
    except LinnaeaError as error:  # a cache that cannot be written costs the next command the reading
        announce_uncached(error, f"the checklist {name} is", "is read")
        return replace(_in_one_piece(with_keys(made)), name=name, report=None)
    return _open(folder)


def _in_one_piece(checklist: Checklist) -> Checklist:
    """Return the checklist with each column as one array, as a stored one has them."""
    return replace(checklist, **{table: getattr(checklist, table).rechunk() for table in _TABLES})


def _save(checklist: Checklist, folder: Path, name: str, origin: str) -> None:
    """Write the tables beside ``folder`` and move them into place in one step."""
    with replaced_folder(folder, keep_others=False) as new:
        keyed = with_keys(checklist)
        for table in _TABLES:
            rows = getattr(keyed, table)
            batch = max(1, rows.height)  # one batch, so that a column is one array
            rows.write_ipc(new / f"{table}.arrow", compression="uncompressed", record_batch_size=batch)
        facts = {"name": name, "version": checklist.version, "origin": origin, "n_taxa": checklist.taxa.height}
        facts |= {"format": FORMAT, "read": time.strftime("%Y-%m-%d")}
        (new / "checklist.json").write_text(json.dumps(facts, indent=1))


def _facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a stored checklist; empty if there are none or they are damaged."""
    try:
        return read_json(folder / "checklist.json", kind="the facts of a checklist")
    except LinnaeaError:
        return {}


def _open(folder: Path) -> Checklist:
    facts = _facts(folder)
    if facts.get("format") != FORMAT:
        was = "stored in an older format" if facts else "damaged"
        raise LinnaeaError(f"checklist {folder.name}: {was}; import {facts.get('origin', 'its file')} again")
    try:
        taxa, synonyms, vernaculars = (_map_arrow(folder / f"{table}.arrow") for table in _TABLES)
        return Checklist(
            name=facts["name"], version=facts["version"], taxa=taxa, synonyms=synonyms, vernaculars=vernaculars
        )
    except (OSError, PolarsError, KeyError) as error:
        raise LinnaeaError(f"checklist {folder.name}: damaged; import {facts.get('origin')} again") from error


def _map_arrow(path: Path) -> pl.DataFrame:
    """Map a table into memory; polars' own reader copies all of it."""
    import pyarrow as pa

    check_regular(path)
    try:
        with pa.memory_map(str(path)) as stored:
            return pl.DataFrame(pl.from_arrow(pa.ipc.open_file(stored).read_all(), rechunk=False))
    except pa.ArrowInvalid as error:
        raise OSError(str(error)) from error
