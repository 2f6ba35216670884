"""The records that a reader of a checklist returns, and functions that several readers share.

Most archives give a parent instead of a lineage; :func:`with_lineage` finds the lineages of all rows at once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.taxonomy.ranks import RANK_LABELS, Rank

_MAX_DEPTH = 120
"""The largest number of steps to the root; NCBI's deepest lineages have about 60."""

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
"""ISO 639-1 codes by ISO 639-1, 639-2 and 639-3 codes and English names of languages; others stay as they are."""

KINGDOMS_OF_OTHER_SCHOOLS: dict[str, str] = {
    **dict.fromkeys(("metazoa", "animals", "animal"), "Animalia"),
    **dict.fromkeys(("viridiplantae", "archaeplastida", "chloroplastida", "plants", "plant"), "Plantae"),
    **dict.fromkeys(("eumycota", "mycota", "true fungi"), "Fungi"),
    **dict.fromkeys(("sar", "harosa", "stramenopiles", "alveolata", "rhizaria", "heterokonta"), "Chromista"),
    **dict.fromkeys(("haptophyta", "haptista", "cryptista", "cryptophyceae"), "Chromista"),
    **dict.fromkeys(("amoebozoa", "discoba", "euglenozoa", "metamonada", "excavata", "protista"), "Protozoa"),
    **dict.fromkeys(("rhodophyta", "rhodoplantae", "glaucocystophyceae"), "Plantae"),
    **dict.fromkeys(("eubacteria", "bacillati", "pseudomonadati", "fusobacteriati", "thermotogati"), "Bacteria"),
    **dict.fromkeys(("methanobacteriati", "nanobdellati", "promethearchaeati", "thermoproteati"), "Archaea"),
    **dict.fromkeys(("archaebacteria",), "Archaea"),
    **dict.fromkeys(("viruses", "virus", "orthornavirae", "pararnavirae", "bamfordvirae", "shotokuvirae"), "Viruses"),
    **dict.fromkeys(("heunggongvirae", "helvetiavirae", "loebvirae", "sangervirae", "trapavirae"), "Viruses"),
    **dict.fromkeys(("zilligvirae", "abadenavirae", "hudivirae"), "Viruses"),
}
"""Our names of kingdoms, by lower-case names of kingdoms and of clades that other taxonomies have instead."""


BELOW_SPECIES = (
    *("subspecies", "variety", "form", "infrahybrid", "infraspecific", "varietas", "forma", "subvariety", "subform"),
    *("subvarietas", "subforma", "nothosubspecies", "nothovariety", "nothovarietas", "infraspecificname", "cultivar"),
    *("infraspecific_name", "infrasubspecific_name", "natio", "morph", "aberration", "convariety", "race"),
    *("subsp.", "var.", "f.", "ssp."),
)
"""Words for the ranks below the species."""


@dataclass(frozen=True, kw_only=True)
class ChecklistRecords:
    """The result of a reader: records of any rank with their lineage written out, not yet in order."""

    name: str
    version: str
    records: pl.DataFrame
    """``id`` (unique), ``rank`` (a lower-case word), ``name``, the seven ranks; ``authorship`` and
    ``common_name`` if there are any. Records between or below the seven ranks become synonyms."""
    synonyms: pl.DataFrame | None = None
    """``id`` of the accepted record, ``name``, ``authorship``, ``kind``"""
    vernaculars: pl.DataFrame | None = None
    """``id`` of the record, ``name``, ``language``, ``preferred``, ``source``"""
    left_out: pl.DataFrame | None = None
    """``reason`` and ``name`` of the rows that are none of these; a row that became a record or a synonym has its
    number in ``line``, which is unique to the row, and may be in several records."""
    used: tuple[str, ...] = ()
    """The columns of the source that were used, and tables beside it."""
    unused: tuple[str, ...] = ()
    """The columns and tables that were not used."""
    notes: tuple[str, ...] = ()
    """What was odd in the source and was read all the same."""
    are_captions: bool = True
    """Whether the preferred English names are the common names of the taxa, which captions show."""


MADE_UP = "row "
"""The start of ids that a reader made up for rows without one; they mean nothing in another checklist."""

VIRUS_SPECIES = r"^\p{Lu}\S*(?:virus|viroid|satellite|phage) [\p{Lu}\d][\p{L}\d.-]*$"
"""Species of viruses may be numbered ("Alphapapillomavirus 9", "Mastadenovirus A")."""

MISAPPLIED = r"\b(?:auct|auctt|auctorum|sensu|misapplied)\b|\b(?:non|nec) "
"""The marks of a name that is used for another taxon than its own."""


def is_virus_phrase(name: pl.Expr) -> pl.Expr:
    """Return whether a name is that of a virus that is no binomial ("Tobacco mosaic virus", "Escherichia phage T4")."""
    phrase = name.str.contains(r"^\p{Lu}.* (?:\p{L}*virus|viroid|phage|\p{L}*satellite)(?: [\p{Lu}\d][\p{L}\d.-]*)?$")
    return phrase & ~name.str.contains(VIRUS_SPECIES)


def mark_misapplied(authorship: pl.Expr, name: pl.Expr, status: pl.Expr) -> pl.Expr:
    """Return authorships that say "auct." where the name or its status says that it is misapplied."""
    text = pl.concat_str(name, pl.lit(" "), authorship, pl.lit(" "), status.str.to_lowercase())
    return pl.when(text.str.contains(MISAPPLIED)).then(authorship + " auct.").otherwise(authorship).str.strip_chars()


def map_kingdom(kingdom: pl.Expr) -> pl.Expr:
    """Return the name that we write for a kingdom; one that is not known stays as it is."""
    return kingdom.str.to_lowercase().replace_strict(KINGDOMS_OF_OTHER_SCHOOLS, default=kingdom)


def language_code(column: pl.Expr) -> pl.Expr:
    word = column.fill_null("").str.to_lowercase().str.strip_chars()
    base = word.str.replace(r"[-_].*$", "")
    return word.replace_strict(_LANGUAGES, default=base.replace_strict(_LANGUAGES, default=word))


def read_delimited(path: Path, separator: str, quote: str | None, skip: int, columns: list[str] | None) -> pl.DataFrame:
    table = pl.read_csv(
        path,
        glob=False,
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


def fill_columns(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return the named columns; ``""`` where the table lacks one."""
    return table.select(
        (pl.col(c).cast(pl.String).fill_null("") if c in table.columns else pl.lit("")).alias(c) for c in columns
    )


# Lineages from parents.


def parent_rows(records: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Return the row of each record's parent; -1 for none. Ids are unique."""
    rows = records.select("id").with_row_index("at")
    found = records.select(id="parent").join(rows, on="id", how="left", maintain_order="left")["at"]
    return found.cast(pl.Int64).fill_null(-1).to_numpy()


def with_lineage(records: pl.DataFrame) -> pl.DataFrame:
    """Add the seven ranks to ``id, parent, rank, name`` by climbing; names of species must be binomials."""
    parent_row = parent_rows(records)
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
    names = records["name"].str.replace(r"^(?:[×†]\s*|x\s+)", "")
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
        species=epithet_of(pl.col("species")),
    )


def _climbing_ranks() -> dict[str, int]:
    hybrids = {"nothospecies": 6, "hybrid": 6, "nothogenus": 5, "genushybrid": 5}
    return {rank.label: int(rank) for rank in Rank} | {"division": int(Rank.PHYLUM), **hybrids}


def epithet_of(species: pl.Expr) -> pl.Expr:
    """Return the epithet of a name, ``""`` where it has none."""
    plain = species.str.extract(r"^(?:[×✕]\s?|x\s)?\S+ (?:\([^)]*\) )?(?:[×✕]\s?|x\s)?(\p{Ll}[\p{L}\d.-]*)")
    numbered = pl.when(species.str.contains(VIRUS_SPECIES)).then(species.str.extract(r" (\S+)$"))
    return pl.coalesce(plain, numbered, pl.lit(""))
