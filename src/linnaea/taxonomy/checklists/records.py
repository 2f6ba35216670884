"""The records that a reader of a checklist returns, and functions that several readers share.

Most archives give a parent instead of a lineage; :func:`with_lineage` finds the lineages of all rows at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.taxonomy.ranks import RANK_LABELS, Rank

Rows = npt.NDArray[np.int32]

_MAX_DEPTH = 120
"""The largest number of steps to the root; NCBI's deepest lineages have about 60."""

_AT_ONCE = 200_000
_REPEATED = ("rank", "status", "authorship", "reason", *RANK_LABELS[:-1])
"""Columns whose texts are in many rows."""

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
    ``common_name`` if there are any. Records between or below the seven ranks become synonyms. All are texts or
    categories."""
    synonyms: pl.DataFrame | None = None
    """``id`` of the accepted record, ``name``, ``authorship``, ``kind``"""
    vernaculars: pl.DataFrame | None = None
    """``id`` of the record, ``name``, ``language``, ``preferred``, ``source``"""
    left_out: pl.DataFrame | None = None
    """``reason`` and ``name`` of the rows that became nothing. ``line`` is the number of a row; the records and
    synonyms that were made of the row have it, too."""
    used: tuple[str, ...] = ()
    """The columns of the source that were used, and tables beside it."""
    unused: tuple[str, ...] = ()
    """The columns and tables that were not used."""
    notes: tuple[str, ...] = ()
    """Oddities of the source that did not keep it from being read."""
    are_captions: bool = True
    """True if the preferred English names are the common names of the taxa, which captions show."""


MADE_UP = "row "
"""The start of ids that a reader made up for rows without one; they mean nothing in another checklist."""

VIRUS_SPECIES = r"^\p{Lu}\S*(?:virus|viroid|satellite|phage) [\p{Lu}\d][\p{L}\d.-]*$"
"""Species of viruses may be numbered ("Alphapapillomavirus 9", "Mastadenovirus A")."""

MISAPPLIED = r"\b(?:auct|auctt|auctorum|sensu|misapplied)\b|\b(?:non|nec) "
"""The marks of a name that is used for another taxon than its own."""


def is_virus_phrase(name: pl.Expr) -> pl.Expr:
    """Return whether a name is a virus's and not a binomial ("Tobacco mosaic virus", "Escherichia phage T4")."""
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


def fill_columns(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return the named columns; ``""`` where the table lacks one."""
    return table.select(
        (pl.col(c).cast(pl.String).fill_null("") if c in table.columns else pl.lit("")).alias(c) for c in columns
    )


# Large tables.


def in_parts(table: pl.DataFrame, change: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Return ``change(table)``, computed part by part; ``change`` must treat each row by itself.

    ``change`` gets texts. In the result, texts that occur in many rows are categories: a category takes 4 bytes, a text
    16 and more, which counts for millions of names.
    """
    starts = range(0, max(1, table.height), _AT_ONCE)
    return pl.concat([with_categories(change(with_texts(table.slice(start, _AT_ONCE)))) for start in starts])


def with_categories(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which the texts that are in many rows are categories."""
    return table.with_columns(pl.col(column).cast(pl.Categorical) for column in _REPEATED if column in table.columns)


def with_texts(table: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which categories are texts."""
    return table.with_columns(pl.selectors.categorical().cast(pl.String))


def share_texts(column: pl.Series) -> pl.Series:
    """Return a column as texts; those of one category share their bytes, which a cast would copy for each row."""
    if column.dtype != pl.Categorical or column.null_count():
        return column.cast(pl.String)
    once = column.unique()
    codes = once.to_physical().to_numpy()
    place = np.zeros(int(codes.max(initial=0)) + 1, np.uint32)
    place[codes] = np.arange(len(once), dtype=np.uint32)
    return once.cast(pl.String).gather(pl.Series(place[column.to_physical().to_numpy()])).alias(column.name)


class IdIndex:
    """The first row of each id.

    It compares hashes first, so that it takes 12 bytes a row; a table of texts takes over a hundred.
    """

    def __init__(self, ids: pl.Series) -> None:
        hashes = _hashes(ids)
        self._ids = ids
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]

    def find(self, asked: pl.Series) -> Rows:
        """Return the first row with each id that is asked for; -1 for none, and for ``""``."""
        rows = np.full(len(asked), -1, np.int32)
        if not len(self._order):
            return rows
        for start in range(0, len(asked), _AT_ONCE):
            part = asked.slice(start, _AT_ONCE)
            hashes = _hashes(part)
            at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._order) - 1)
            found = np.flatnonzero((self._hashes[at] == hashes) & (part != "").fill_null(False).to_numpy())
            row = self._order[at[found]]
            rows[start + found] = row
            other = (self._ids.gather(pl.Series(row)) != part.gather(pl.Series(found))).to_numpy()
            if other.any():  # two ids of one hash
                rows[start + found[other]] = self._compare(part.gather(pl.Series(found[other])))
        return rows

    def may_repeat(self) -> bool:
        """Return whether two rows may have one id; if not, none have."""
        return bool((self._hashes[1:] == self._hashes[:-1]).any())

    def _compare(self, asked: pl.Series) -> Rows:
        ids = self._ids.alias("id").to_frame().with_row_index("at").filter(pl.col("id").is_in(asked.implode()))
        first = ids.unique("id", keep="first")
        found = asked.alias("id").to_frame().join(first, on="id", how="left", maintain_order="left")["at"]
        return found.cast(pl.Int32).fill_null(-1).to_numpy()


def _hashes(texts: pl.Series) -> npt.NDArray[np.uint64]:
    return texts.hash().to_numpy()


# Lineages from parents.


def parent_rows(records: pl.DataFrame) -> Rows:
    """Return the row of each record's parent; -1 for none. Ids are unique."""
    return IdIndex(records["id"]).find(records["parent"])


def with_lineage(records: pl.DataFrame) -> pl.DataFrame:
    """Add the seven ranks to ``id, parent, rank, name`` by climbing; names of species must be binomials."""
    return records.with_columns(with_texts(make_lineages(records, parent_rows(records))))


def make_lineages(records: pl.DataFrame, parent: Rows) -> pl.DataFrame:
    """Return the seven ranks of ``rank, name`` by climbing to the row of the parent; the upper six are categories."""
    found = _rows_above(records["rank"], parent)
    names = pl.concat([records["name"].cast(pl.String), pl.Series([""])])
    columns = {label: _names_at(names, rows) for label, rows in zip(RANK_LABELS, found, strict=True)}
    del found
    columns["species"] = columns["species"].cast(pl.String)
    return in_parts(pl.DataFrame(columns), _with_epithets)


def _rows_above(rank: pl.Series, parent: Rows) -> npt.NDArray[np.int32]:
    """Return ``[7, n]``: the row of the taxon of each principal rank at or above each row, or -1."""
    words = rank.unique()
    value = rank.replace_strict(words, [_climbing_ranks().get(word, -1) for word in words], return_dtype=pl.Int8)
    values, n = value.to_numpy(), len(parent)
    found = np.full((len(Rank), n), -1, np.int32)
    at, rows = np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32)
    for _ in range(_MAX_DEPTH):
        here = values[at]
        for principal in Rank:
            new = (here == int(principal)) & (found[principal][rows] < 0)
            found[principal][rows[new]] = at[new]
        at = parent[at]
        alive = at >= 0
        at, rows = at[alive], rows[alive]
        if not len(rows):
            break
    return found


def _names_at(names: pl.Series, rows: Rows) -> pl.Series:
    """Return the names at some rows without hybrid signs and daggers; -1 is the last row."""
    here = np.zeros(len(names), bool)
    here[rows] = True
    code = (np.cumsum(here, dtype=np.int32) - 1).astype(np.int32)[rows]
    once = names.gather(pl.Series(np.flatnonzero(here))).str.replace(r"^(?:[×†]\s*|x\s+)", "")
    once = once.cast(pl.Categorical) if len(once) < len(rows) / 4 else once
    return once.gather(pl.Series(code))


def _with_epithets(lineages: pl.DataFrame) -> pl.DataFrame:
    """Return lineages with the genus of a species that has no other, and its epithet in place of its name."""
    genus = pl.when((pl.col("genus") == "") & (pl.col("species") != ""))
    return lineages.with_columns(
        genus=genus.then(pl.col("species").str.extract(r"^(\S+) ")).otherwise("genus").fill_null(""),
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
