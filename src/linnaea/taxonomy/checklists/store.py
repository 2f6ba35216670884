"""A checklist as three tables: accepted taxa in depth-first order, their synonyms, their vernacular names.

Whatever a checklist looks like where it comes from (:mod:`~linnaea.taxonomy.checklists.source`), it becomes this one
form, is written to the cache as Arrow files and from then on memory-mapped: opening a checklist of a million species
takes well under a second.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from linnaea.errors import LinnaeaError
from linnaea.exchange import replaced_folder
from linnaea.storage import cache_dir, check_regular, read_json
from linnaea.taxonomy.checklists.records import BELOW_SPECIES, MISAPPLIED, ChecklistRecords, map_kingdom
from linnaea.taxonomy.checklists.source import EMBEDDED, read_checklist_source
from linnaea.taxonomy.keys import loose_vernacular_key, name_key, vernacular_key
from linnaea.taxonomy.label_words import ODD_BINOMIALS
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

FORMAT = 9
"""The version of the tables. It increases when they change, so that older caches are read again from their source."""

TAXA_SCHEMA: dict[str, pl.DataType] = {
    "source_id": pl.String(),
    "rank": pl.Int8(),
    "name": pl.String(),
    "authorship": pl.String(),
    "parent": pl.Int32(),
    **dict.fromkeys(RANK_LABELS, pl.String()),
    "common_name": pl.String(),
}
SYNONYM_SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "authorship": pl.String(),
    "row": pl.Int32(),
    "kind": pl.String(),
}
VERNACULAR_SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),
    "language": pl.String(),
    "row": pl.Int32(),
    "preferred": pl.Boolean(),
    "source": pl.String(),
}

_TABLES = ("taxa", "synonyms", "vernaculars")


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """One taxonomy, in the form that all sources are brought to."""

    name: str
    version: str
    taxa: pl.DataFrame
    """:data:`TAXA_SCHEMA`, rows in depth-first order: ``rank`` a :class:`Rank` value, ``name`` canonical
    ("Pica hudsonia", "Corvidae"), ``parent`` the row above or -1, ``species`` the epithet, ``""`` where unknown."""
    synonyms: pl.DataFrame
    """:data:`SYNONYM_SCHEMA`: ``row`` the accepted taxon; ``kind`` "synonym" or the rank of a name between or
    below the seven ranks ("subfamily", "subspecies")."""
    vernaculars: pl.DataFrame
    """:data:`VERNACULAR_SCHEMA`: ``language`` a code of ISO 639-1 where there is one, ``row`` the taxon."""

    def __len__(self) -> int:
        return self.taxa.height

    def __repr__(self) -> str:
        rest = f"{self.synonyms.height:,} synonyms, {self.vernaculars.height:,} vernacular names"
        return f"Checklist({self.name} {self.version}: {self.taxa.height:,} taxa, {rest})"


def make_checklist(source: ChecklistRecords) -> Checklist:
    """Order records depth-first, one row per lineage, with parents and the higher taxa that they imply."""
    records = _clean_records(source.records)
    principal = records.filter(pl.col("rank_value").is_not_null())
    principal = pl.concat([principal, _implied_species(records, principal)], how="diagonal")
    taxa = pl.concat([principal, _implied(principal)], how="diagonal").with_columns(
        pl.col("id", "authorship").fill_null("")
    )
    taxa = taxa.with_columns(rank=pl.col("rank_value").cast(pl.Int8))
    described = pl.col("authorship") != ""
    taxa = taxa.sort([*RANK_LABELS, "rank", described], descending=[False] * 8 + [True], maintain_order=True)
    firsts = taxa.select(pl.struct(*RANK_LABELS).is_first_distinct()).to_series()
    rows = taxa.select("id").with_columns(row=(firsts.cast(pl.Int32).cum_sum() - 1).cast(pl.Int32))
    taxa = taxa.filter(firsts).with_row_index("row").with_columns(pl.col("row").cast(pl.Int32))
    taxa = taxa.with_columns(name=_canonical_name())
    taxa = taxa.join(_parents(taxa), on="row", how="left", maintain_order="left").with_columns(
        pl.col("parent").fill_null(-1)
    )
    row_of = rows.filter(pl.col("id") != "").unique("id", keep="first")
    others = records.filter(pl.col("rank_value").is_null())
    below = others.filter(pl.col("rank").is_in(BELOW_SPECIES))
    below = below.with_columns(split_authors(below["name"])["name"])
    between = _between(pl.concat([others.filter(~pl.col("rank").is_in(BELOW_SPECIES)), below]), taxa)
    row_of = pl.concat([row_of, between.select("id", "row").join(row_of, on="id", how="anti")])
    synonyms = [between.select("name", "authorship", "row", pl.col("rank").alias("kind"))]
    if source.synonyms is not None:
        synonyms.insert(0, _given_synonyms(source.synonyms, row_of, taxa["name"]))
    vernaculars = _vernaculars(source, records, row_of)
    preferred = (
        vernaculars.filter((pl.col("language") == "en") & pl.col("of_taxon"))
        .sort("preferred", descending=True, maintain_order=True)
        .unique("row", keep="first", maintain_order=True)
        .select("row", common_name="name")
    )
    taxa = taxa.drop("common_name").join(preferred, on="row", how="left", maintain_order="left")
    return Checklist(
        name=source.name,
        version=source.version,
        taxa=_typed(taxa.rename({"id": "source_id"}).with_columns(pl.col("common_name").fill_null("")), TAXA_SCHEMA),
        synonyms=_typed(_drop_self(pl.concat(synonyms), taxa), SYNONYM_SCHEMA),
        vernaculars=_typed(vernaculars, VERNACULAR_SCHEMA),
    )


def _given_synonyms(synonyms: pl.DataFrame, row_of: pl.DataFrame, accepted: pl.Series) -> pl.DataFrame:
    """Return the synonyms of a source without the authors in their names.

    A misapplied name ("Carex rostrata auct. non Stokes") is left out where the name has a taxon of its own.
    """
    given = synonyms.join(row_of, on="id").with_columns(pl.col("authorship").fill_null(""))
    written = given.select(pl.concat_str("name", pl.lit(" "), "authorship")).to_series()
    names = split_authors(given["name"])
    author = pl.when(pl.col("authorship") != "").then("authorship").otherwise(names["authorship"])
    given = given.with_columns(names["name"], authorship=author, misapplied=written.str.contains(MISAPPLIED))
    own = pl.concat([accepted, given.filter(~pl.col("misapplied"))["name"]]).unique()
    given = given.filter(~pl.col("misapplied") | ~pl.col("name").is_in(own.implode()))
    return given.select("name", "authorship", "row", "kind")


def with_keys(checklist: Checklist) -> Checklist:
    """Add the keys of all names as columns; cached checklists have them already."""
    loose, strict = loose_vernacular_key(pl.col("name")), vernacular_key(pl.col("name"))
    return replace(
        checklist,
        taxa=checklist.taxa.with_columns(key=name_key(pl.col("name"))),
        synonyms=checklist.synonyms.with_columns(key=name_key(pl.col("name"))),
        vernaculars=checklist.vernaculars.with_columns(strict=strict, loose=loose),
    )


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    return table.select(pl.col(name).cast(kind) for name, kind in schema.items())


def _tidy(column: str) -> pl.Expr:
    """Return a column with single blanks, no control characters, no dagger of extinct taxa, ``""`` for null."""
    text = pl.col(column).cast(pl.String).fill_null("")
    return text.str.replace_all(r"[\p{C}\s†]+", " ").str.strip_chars().alias(column)


def _clean_records(records: pl.DataFrame) -> pl.DataFrame:
    for optional in ("authorship", "common_name"):
        if optional not in records.columns:
            records = records.with_columns(pl.lit("").alias(optional))
    kept = ["id", "rank", "name", "authorship", "common_name", *RANK_LABELS]
    records = records.select(_tidy(column) for column in kept).filter(pl.col("name") != "")
    above = [_uninformative_as_empty(label) for label in RANK_LABELS[:-1]]
    return (
        records.with_columns(
            *above,
            species=pl.col("species").str.replace(r"^(?:×\s*|x\s+)", "").str.strip_chars("- "),
            rank=pl.col("rank").str.to_lowercase(),
        )
        .with_columns(
            kingdom=map_kingdom(pl.col("kingdom")), genus=pl.col("genus").str.replace(r"^[×x]\s*(\p{Lu})", "$1")
        )
        .with_columns(rank_value=pl.col("rank").replace_strict(_RANK_VALUES, default=None, return_dtype=pl.Int8))
        .with_columns(_empty_below_rank(rank) for rank in Rank)
        .filter(_own_name_is_in_lineage() & ~_names_no_species())
    )


_RANK_VALUES = {rank.label: int(rank) for rank in Rank} | {
    "superkingdom": int(Rank.KINGDOM),
    "division": int(Rank.PHYLUM),
    "genushybrid": int(Rank.GENUS),
    "nothogenus": int(Rank.GENUS),
    "hybrid": int(Rank.SPECIES),
    "nothospecies": int(Rank.SPECIES),
}
"""Words for the seven ranks; ICN's division is a phylum (article 3.1), hybrids are taxa of their rank."""


def _uninformative_as_empty(label: str) -> pl.Expr:
    empty = pl.col(label).str.to_lowercase().str.contains(_NO_NAME)
    return pl.when(empty).then(pl.lit("")).otherwise(pl.col(label)).alias(label)


_NO_NAME = r"(?i)incertae|unclassified|unassigned|unknown|not[ _]classified|unidentified|^not |^sp\.?$"


def _empty_below_rank(rank: Rank) -> pl.Expr:
    """Empty a rank below the record's own: a genus has no epithet."""
    below = pl.col("rank_value") < int(rank)
    return pl.when(below).then(pl.lit("")).otherwise(pl.col(rank.label)).alias(rank.label)


def _own_name_is_in_lineage() -> pl.Expr:
    """Return whether a record has its own name in its lineage; a species needs its genus."""
    has_name = pl.any_horizontal((pl.col("rank_value") == int(rank)) & (pl.col(rank.label) != "") for rank in Rank)
    has_genus = (pl.col("rank_value") < int(Rank.SPECIES)) | (pl.col("genus") != "")
    return pl.col("rank_value").is_null() | (has_name & has_genus)


_OPEN = (
    r"^(?:spp?|cf|aff|nr|near|ex|indet|gen|nov|ined|undet|hybrids?|group|gr|agg|unidentified|unknown|species|spec)"
    r"(?:\.|\d|\b[^-]|$)|^[×?xX]$|^[^\p{L}]*$|^['_(]"
)
"""Epithets of names that nobody has published ("sp. 'CA02'"), and of open identifications."""


def _names_no_species() -> pl.Expr:
    """Return whether a record is a provisional name, an open identification, or the formula of a hybrid."""
    open_name = (pl.col("species") != "") & pl.col("species").str.contains(_OPEN) & ~pl.col("name").is_in(ODD_BINOMIALS)
    formula = pl.col("name").str.contains(r"^\p{Lu}\S+ (?:[×x] )?(?:\p{Ll}\S+.* [×x+] ?|[×x] \p{Lu})")
    return open_name | (formula & (pl.col("rank_value").fill_null(6) >= int(Rank.GENUS)))


def _implied_species(records: pl.DataFrame, principal: pl.DataFrame) -> pl.DataFrame:
    """Return the species of subspecies that have no record of their own ("Pica hudsonia hudsonia" alone)."""
    parts = records.filter(
        pl.col("rank").is_in(BELOW_SPECIES)
        & pl.col("rank_value").is_null()
        & (pl.col("genus") != "")
        & pl.col("species").str.contains(r"^\p{Ll}[\p{Ll}-]+$")
        & ~pl.col("name").str.contains(r"[\[/?]")
    )
    known = principal.filter(pl.col("rank_value") == int(Rank.SPECIES)).select("genus", "species").unique()
    missing = parts.join(known, on=["genus", "species"], how="anti").unique(["genus", "species"], keep="first")
    return missing.select(
        *RANK_LABELS,
        id=pl.lit(""),
        name=pl.concat_str("genus", pl.lit(" "), "species"),
        authorship=pl.lit(""),
        common_name=pl.lit(""),
        rank=pl.lit(Rank.SPECIES.label),
        rank_value=pl.lit(int(Rank.SPECIES), pl.Int8),
    ).sort(RANK_LABELS)


def _canonical_name() -> pl.Expr:
    binomial = pl.col("genus") + " " + pl.col("species")
    lowest = pl.coalesce(
        pl.when(pl.col("rank") == int(rank)).then(pl.col(rank.label)) for rank in Rank if rank != Rank.SPECIES
    )
    return pl.when(pl.col("rank") == int(Rank.SPECIES)).then(binomial).otherwise(lowest)


def _implied(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return higher taxa that occur in lineages but have no record of their own."""
    missing = []
    for rank in list(Rank)[:-1]:
        above = RANK_LABELS[: rank + 1]
        named = taxa.filter(pl.col(rank.label) != "")
        known = named.filter(pl.col("rank_value") == int(rank)).select(above)
        implied = named.filter(pl.col("rank_value") > int(rank)).select(above).unique()
        missing.append(implied.join(known, on=above, how="anti").with_columns(rank_value=pl.lit(int(rank), pl.Int8)))
    below = [pl.lit(None, pl.String).alias(label) for label in RANK_LABELS]
    table = pl.concat(missing, how="diagonal")
    table = table.with_columns(column for column in below if column.meta.output_name() not in table.columns)
    return table.with_columns(pl.col(label).fill_null("") for label in RANK_LABELS)


def _parents(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return row, parent: the row of the nearest named taxon above, where there is one."""
    parts = []
    for rank in list(Rank)[:-1]:
        above, between = RANK_LABELS[: rank + 1], RANK_LABELS[rank + 1 :]
        at_rank = taxa.filter(pl.col("rank") == int(rank)).select(*above, parent="row")
        unnamed = [(pl.col(label) == "") | (pl.col("rank") == int(Rank.parse(label))) for label in between]
        children = taxa.filter((pl.col("rank") > int(rank)) & (pl.col(rank.label) != "") & pl.all_horizontal(unnamed))
        parts.append(children.join(at_rank, on=above).select("row", "parent"))
    return pl.concat(parts)


def _between(records: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return records of other ranks (tribe, subspecies) with the row of their nearest principal taxon."""
    keyed = records.with_columns(_epithet_needs_genus())
    return keyed.join(
        taxa.select(*RANK_LABELS, "row"), on=list(RANK_LABELS), how="inner", maintain_order="left"
    ).filter(pl.col("name") != "")


def _epithet_needs_genus() -> pl.Expr:
    return pl.when(pl.col("genus") == "").then(pl.lit("")).otherwise(pl.col("species")).alias("species")


def _vernaculars(source: ChecklistRecords, records: pl.DataFrame, row_of: pl.DataFrame) -> pl.DataFrame:
    own = records.filter(pl.col("common_name") != "").select(
        "id",
        name="common_name",
        language=pl.lit("en"),
        preferred=pl.col("rank_value").is_not_null(),
        source=pl.lit(source.name),
    )
    parts = [own]
    if source.vernaculars is not None:
        parts.append(source.vernaculars.select("id", _tidy("name"), "language", "preferred", "source"))
    principal = records.filter(pl.col("rank_value").is_not_null()).select("id", of_taxon=pl.lit(True))
    names = pl.concat(parts).filter(pl.col("name") != "").join(row_of, on="id", maintain_order="left")
    # A name of a subspecies finds its species, but is not a name of the species itself.
    names = names.join(principal, on="id", how="left", maintain_order="left").with_columns(
        pl.col("of_taxon").fill_null(False)
    )
    return names.unique(["row", "name", "language"], keep="first", maintain_order=True)


def _drop_self(synonyms: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Drop synonyms that only repeat their accepted name."""
    same = synonyms.join(taxa.select("row", accepted="name"), on="row", how="left", maintain_order="left")
    kept = same.filter((pl.col("name") != pl.col("accepted")) & (pl.col("name") != ""))
    return kept.drop("accepted").unique(["name", "row", "kind"], keep="first", maintain_order=True)


# Names, files, cache.


def load_checklist(name_or_path: str) -> Checklist:
    """Open a checklist by name (``inat``, ``ncbi``, an imported one) or by file or folder.

    The first use of a source reads it (seconds to a minute); from then on its tables are memory-mapped.

    Raises:
        LinnaeaError: The name or file does not exist, or cannot be read as a checklist.
    """
    if (embedded := EMBEDDED.get(name_or_path)) is not None:
        return _cached(name_or_path, embedded.path, lambda: embedded.read_records(name_or_path))
    imported = _imported_dir(name_or_path)
    if imported is not None:
        return _open(imported)
    path = Path(name_or_path).expanduser()
    if not path.exists():
        known = ", ".join(sorted({*EMBEDDED, *(entry.name for entry in list_checklists())}))
        raise LinnaeaError(f"{name_or_path!r} is neither a checklist ({known}) nor a file; import it or give its path")
    return _cached(path.stem, path, lambda: read_checklist_source(path))


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
    made = make_checklist(read_checklist_source(path))
    if made.taxa.is_empty():
        raise LinnaeaError(f"{path}: no taxon of a rank from kingdom to species could be read, so nothing was imported")
    _save(made, cache_dir() / "checklists" / "imported" / name, name, str(path))
    return load_checklist(name)


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
        facts = _facts(_cache_folder(name, path))
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


def _cache_folder(name: str, path: Path) -> Path:
    """Return the folder of a cached source; its name changes with the files' sizes and times and with our format."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([FORMAT, str(path.resolve()), stats]).encode()).hexdigest()[:16]
    return cache_dir() / "checklists" / "read" / f"{name}-{key}"


def _cached(name: str, path: Path, read: Callable[[], ChecklistRecords]) -> Checklist:
    folder = _cache_folder(name, path)
    if (folder / "checklist.json").exists():
        with suppress(LinnaeaError):  # a damaged cache is made again
            return _open(folder)
    for older in folder.parent.glob(f"{escape(name)}-" + "?" * 16):
        shutil.rmtree(older, ignore_errors=True)
    _save(make_checklist(read()), folder, name, str(path))
    return _open(folder)


def _save(checklist: Checklist, folder: Path, name: str, origin: str) -> None:
    """Write the tables beside ``folder`` and move them into place in one step."""
    with replaced_folder(folder, keep_others=False) as new:
        keyed = with_keys(checklist)
        for table in _TABLES:
            getattr(keyed, table).write_ipc(new / f"{table}.arrow", compression="uncompressed")
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
        taxa, synonyms, vernaculars = (_read_arrow(folder / f"{table}.arrow") for table in _TABLES)
        return Checklist(
            name=facts["name"], version=facts["version"], taxa=taxa, synonyms=synonyms, vernaculars=vernaculars
        )
    except (OSError, PolarsError, KeyError) as error:
        raise LinnaeaError(f"checklist {folder.name}: damaged; import {facts.get('origin')} again") from error


def _read_arrow(path: Path) -> pl.DataFrame:
    check_regular(path)
    with path.open("rb") as stream:  # polars takes a path as a pattern
        return pl.read_ipc(stream) if set("*?[") & set(str(path)) else pl.read_ipc(path)
