"""Bring records of any source into the one form: taxa in depth-first order, their synonyms and vernacular names."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from linnaea.counting import count
from linnaea.taxonomy.checklists.ledger import AGAIN, Fates, ImportReport, count_rows, is_among
from linnaea.taxonomy.checklists.records import (
    BELOW_SPECIES,
    MADE_UP,
    MISAPPLIED,
    VIRUS_SPECIES,
    ChecklistRecords,
    IdIndex,
    Rows,
    in_parts,
    map_kingdom,
    share_texts,
    with_categories,
    with_texts,
)
from linnaea.taxonomy.label_words import ODD_BINOMIALS
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

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


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """One taxonomy, in the form that all sources are brought to."""

    name: str
    version: str
    taxa: pl.DataFrame
    """Rows in depth-first order (:data:`TAXA_SCHEMA`): ``rank`` a :class:`Rank` value, ``name`` canonical ("Pica
    hudsonia", "Corvidae"), ``parent`` the row above or -1, ``species`` the epithet, ``""`` where unknown."""
    synonyms: pl.DataFrame
    """:data:`SYNONYM_SCHEMA`: ``row`` the accepted taxon; ``kind`` "synonym" or the rank of a name between or below
    the seven ranks ("subfamily", "subspecies")."""
    vernaculars: pl.DataFrame
    """:data:`VERNACULAR_SCHEMA`: ``language`` a code of ISO 639-1 where there is one, ``row`` the taxon."""
    report: ImportReport | None = None
    """What became of the rows of the source; ``None`` for a checklist that was read before."""

    def __len__(self) -> int:
        return self.taxa.height

    def __repr__(self) -> str:
        return f"Checklist({self.summary})"

    @property
    def summary(self) -> str:
        """Return the name and version of the checklist, and the numbers of its taxa and names."""
        rest = f"{count(self.synonyms.height, 'synonym')}, {count(self.vernaculars.height, 'vernacular name')}"
        return f"{self.name} {self.version}: {count(self.taxa.height, 'taxon')}, {rest}"


def make_checklist(source: ChecklistRecords) -> Checklist:
    """Return the checklist of a source's records: depth-first, a row for each lineage, with the higher taxa it implies.

    :attr:`Checklist.report` says what became of every row.
    """
    given, synonyms = _with_lines(source)
    source = replace(source, records=source.records.clear())  # of large lists only what is still needed stays in memory
    checked = in_parts(given, _clean_records)
    del given
    records = checked if (checked["reason"] == "").all() else checked.filter(pl.col("reason") == "")
    doubtful = checked.select("line", "reason", "name", "rank_value")
    del checked
    own_names = records.filter(pl.col("common_name") != "").select("id", "common_name", "rank_value")
    others = with_texts(records.filter(pl.col("rank_value").is_null()))
    taxa = _depth_first(_with_implied(records, others))
    del records
    ids, firsts = taxa["id"], _is_first(taxa)
    row = (firsts.cast(pl.Int32).cum_sum() - 1).cast(pl.Int32)
    taxa = taxa if firsts.all() else taxa.filter(firsts)
    taxa = taxa.with_row_index("row").with_columns(pl.col("row").cast(pl.Int32))
    doubtful = doubtful.filter(~pl.Series(is_among(doubtful["line"], taxa["line"])))
    taxa = taxa.with_columns(in_parts(taxa.select("rank", *RANK_LABELS), _canonical_name), parent=_parents(taxa))
    below = others.filter(pl.col("rank").is_in(BELOW_SPECIES))
    below = below.with_columns(split_authors(below["name"])["name"])
    between = _between(pl.concat([others.filter(~pl.col("rank").is_in(BELOW_SPECIES)), below]), taxa)
    rows = _TaxonRows.of(ids, row, between)
    found = [between.select("name", "authorship", "row", pl.col("rank").alias("kind"), "line")]
    if synonyms is not None:
        found.insert(0, _given_synonyms(synonyms, rows, taxa["name"]))
    other_names = _drop_self(pl.concat(found), taxa)
    vernaculars = _vernaculars(source, own_names, rows)
    fates = Fates(
        accepted=taxa["line"],
        synonyms=other_names["line"],
        left_out=_left_out(source, doubtful, synonyms, between, rows),
        n_vernaculars=vernaculars.filter("from_table").height,
        lost_vernaculars=_lost_vernaculars(source, rows, vernaculars),
    )
    report = count_rows(fates, source.used, source.unused, source.notes)
    taxa = _with_captions(taxa, vernaculars if source.are_captions else vernaculars.clear())
    del ids, row, rows, found, synonyms, fates
    return Checklist(
        name=source.name,
        version=source.version,
        taxa=_typed(taxa, TAXA_SCHEMA),
        synonyms=_typed(other_names, SYNONYM_SCHEMA),
        vernaculars=_typed(vernaculars, VERNACULAR_SCHEMA),
        report=report,
    )


def _with_lines(source: ChecklistRecords) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the records and synonyms of a source with the number of their row, made up if the source has none."""
    records, synonyms = source.records, source.synonyms
    if "line" not in records.columns:
        records = records.with_row_index("line")
        if synonyms is not None:
            synonyms = synonyms.with_row_index("line", offset=records.height)
    return records, synonyms


def _with_implied(records: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Return the records of the seven ranks, and the taxa that the records imply, with what orders them."""
    columns = ("line", "id", "authorship", *RANK_LABELS, "rank_value")
    principal = records.select(columns).filter(pl.col("rank_value").is_not_null())
    empty = {"id": pl.lit(""), "authorship": pl.lit("").cast(pl.Categorical), "line": pl.lit(None, pl.UInt32)}
    species = with_categories(_implied_species(others, principal)).with_columns(**empty).select(columns)
    principal = pl.concat([principal, species]) if species.height else principal
    implied = _implied(principal).with_columns(**empty).select(columns)
    return pl.concat([principal, implied]) if implied.height else principal


def _depth_first(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return taxa in depth-first order, those with an author before others of the same lineage."""
    taxa = taxa.with_columns(rank=pl.col("rank_value").cast(pl.Int8)).drop("rank_value")
    described = pl.col("authorship") != ""
    return taxa.sort([*RANK_LABELS, "rank", described], descending=[False] * 8 + [True], maintain_order=True)


def _is_first(taxa: pl.DataFrame) -> pl.Series:
    """Return whether each of the sorted taxa has another lineage than the one before it."""
    changed = (pl.col(label).ne_missing(pl.col(label).shift(1)) for label in RANK_LABELS)
    return taxa.select(first=pl.any_horizontal(*changed) | (pl.int_range(pl.len()) == 0)).to_series()


def _with_captions(taxa: pl.DataFrame, vernaculars: pl.DataFrame) -> pl.DataFrame:
    """Return taxa as they are stored: with their English names, and without ids that a reader made up."""
    preferred = (
        vernaculars.filter((pl.col("language") == "en") & pl.col("of_taxon"))
        .sort("preferred", descending=True, maintain_order=True)
        .unique("row", keep="first", maintain_order=True)
        .select("row", common_name="name")
    )
    common = pl.repeat("", taxa.height, dtype=pl.String, eager=True).scatter(preferred["row"], preferred["common_name"])
    own_ids = pl.when(pl.col("id").str.starts_with(MADE_UP)).then(pl.lit("")).otherwise("id")
    return taxa.select(pl.all().exclude("id"), source_id=own_ids, common_name=common)


@dataclass(frozen=True, kw_only=True)
class _TaxonRows:
    """The row of the taxon that each id of a source belongs to."""

    index: IdIndex
    rows: Rows
    n_principal: int
    """The first ids are those of the seven ranks; those of names between them follow."""

    @classmethod
    def of(cls, ids: pl.Series, row: pl.Series, between: pl.DataFrame) -> "_TaxonRows":
        rows = np.concatenate([row.to_numpy(), between["row"].cast(pl.Int32).to_numpy()])
        return cls(index=IdIndex(pl.concat([ids, between["id"]])), rows=rows, n_principal=len(ids))

    def join(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of ``table`` whose ``id`` is known, with ``row`` and whether the id is ``of_taxon``."""
        at = self.index.find(table["id"])
        known, found = pl.Series(at >= 0), at[at >= 0]
        row, of_taxon = pl.Series("row", self.rows[found], pl.Int32), pl.Series("of_taxon", found < self.n_principal)
        return table.filter(known).with_columns(row, of_taxon)

    def knows(self, ids: pl.Series) -> pl.Series:
        """Return which ids are known."""
        return pl.Series(self.index.find(ids) >= 0)


def _left_out(
    source: ChecklistRecords,
    doubtful: pl.DataFrame,
    synonyms: pl.DataFrame | None,
    between: pl.DataFrame,
    rows: _TaxonRows,
) -> pl.DataFrame:
    """Return ``line, reason, name`` of the rows that may have been left out, with the first reason first."""
    columns = (pl.col("line").cast(pl.UInt32), pl.col("reason").cast(pl.String), "name")
    parts = [] if source.left_out is None else [source.left_out.select(columns)]
    parts.append(doubtful.filter(pl.col("reason") != "").select(columns))
    apart = doubtful.filter((pl.col("reason") == "") & pl.col("rank_value").is_null())
    apart = apart.join(between.select("line").unique(), on="line", how="anti", maintain_order="left")
    nothing_above = pl.lit("no taxon above it from kingdom to species is in the list")
    parts.append(apart.with_columns(reason=nothing_above).select(columns))
    parts.append(doubtful.filter(pl.col("reason") == "").with_columns(reason=pl.lit(AGAIN)).select(columns))
    if synonyms is not None:
        known = rows.knows(synonyms["id"])
        repeated = pl.lit("a synonym that repeats a name of its taxon, or is misapplied")
        reason = pl.when(known).then(repeated).otherwise(pl.lit("its accepted name was left out"))
        parts.append(synonyms.with_columns(reason=reason).select(columns))
    return pl.concat(parts)


def _lost_vernaculars(source: ChecklistRecords, rows: _TaxonRows, kept: pl.DataFrame) -> pl.DataFrame:
    """Return ``reason, name`` of the vernacular names that were left out."""
    if source.vernaculars is None:
        return pl.DataFrame(schema={"reason": pl.String, "name": pl.String})
    names = source.vernaculars.select("id", _tidy("name")).with_row_index("at")
    names = names.join(kept.filter("from_table").select("at"), on="at", how="anti", maintain_order="left")
    reason = (
        pl.when(pl.col("name") == "").then(pl.lit("no vernacular name"))
        .when(~rows.knows(names["id"])).then(pl.lit("a vernacular name of no taxon of the list"))
        .otherwise(pl.lit("repeats another vernacular name"))
    )  # fmt: skip
    return names.select("name", reason=reason)


def _given_synonyms(synonyms: pl.DataFrame, rows: _TaxonRows, accepted: pl.Series) -> pl.DataFrame:
    """Return the synonyms of a source without the authors in their names.

    A misapplied name ("Carex rostrata auct. non Stokes") is left out where the name has a taxon of its own.
    """
    given = with_texts(rows.join(synonyms)).with_columns(pl.col("authorship").fill_null(""))
    written = given.select(pl.concat_str("name", pl.lit(" "), "authorship")).to_series()
    names = split_authors(given["name"])
    author = pl.when(pl.col("authorship") != "").then("authorship").otherwise(names["authorship"])
    given = given.with_columns(names["name"], authorship=author, misapplied=written.str.contains(MISAPPLIED))
    asked = given.filter("misapplied")["name"].unique().implode()
    own = pl.concat([accepted, given.filter(~pl.col("misapplied"))["name"]])
    own = own.filter(own.is_in(asked))
    given = given.filter(~pl.col("misapplied") | ~pl.col("name").is_in(own.implode()))
    return given.select("name", "authorship", "row", "kind", "line")


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    columns = (
        share_texts(table[name]) if kind == pl.String else table[name].cast(kind) for name, kind in schema.items()
    )
    return pl.DataFrame(list(columns))


def _tidy(column: str) -> pl.Expr:
    """Return a column with single blanks, no control characters, no dagger of extinct taxa, ``""`` for null."""
    text = pl.col(column).cast(pl.String).fill_null("")
    return text.str.replace_all(r"[\p{C}\s†]+", " ").str.strip_chars().alias(column)


def _clean_records(records: pl.DataFrame) -> pl.DataFrame:
    """Return records with tidy names and the value of their rank, and the ``reason`` of those that are not taxa."""
    for optional in ("authorship", "common_name"):
        if optional not in records.columns:
            records = records.with_columns(pl.lit("").alias(optional))
    kept = ["id", "rank", "name", "authorship", "common_name", *RANK_LABELS]
    records = records.select("line", *(_tidy(column) for column in kept))
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
        .with_columns(reason=_why_no_taxon())
    )


def _why_no_taxon() -> pl.Expr:
    """Return why a record is not a taxon, ``""`` if it is."""
    is_species = pl.col("rank_value") == int(Rank.SPECIES)
    return (
        pl.when(pl.col("name") == "").then(pl.lit("no name"))
        .when(_names_no_species()).then(pl.lit("not the name of one species (sp., cf., a hybrid's formula)"))
        .when(~_own_name_is_in_lineage() & is_species).then(pl.lit("a species whose name is no binomial"))
        .when(~_own_name_is_in_lineage()).then(pl.lit("no name of a taxon (incertae sedis, unassigned)"))
        .otherwise(pl.lit(""))
    )  # fmt: skip


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
    known = pl.col("name").is_in(ODD_BINOMIALS) | pl.col("name").str.contains(VIRUS_SPECIES)
    open_name = (pl.col("species") != "") & pl.col("species").str.contains(_OPEN) & ~known
    formula = pl.col("name").str.contains(r"^\p{Lu}\S+ (?:[×x] )?(?:\p{Ll}\S+.* (?:[×+] ?|x )|[×x] \p{Lu})")
    return open_name | (formula & (pl.col("rank_value").fill_null(6) >= int(Rank.GENUS)))


def _implied_species(others: pl.DataFrame, principal: pl.DataFrame) -> pl.DataFrame:
    """Return the species of subspecies that have no record of their own ("Pica hudsonia hudsonia" alone)."""
    parts = others.filter(
        pl.col("rank").is_in(BELOW_SPECIES)
        & (pl.col("genus") != "")
        & pl.col("species").str.contains(r"^\p{Ll}[\p{Ll}-]+$")
        & ~pl.col("name").str.contains(r"[\[/?]")
    )
    known = principal.filter(pl.col("rank_value") == int(Rank.SPECIES)).select("genus", "species")
    known = with_texts(known.join(with_categories(parts.select("genus").unique()), on="genus", how="semi"))
    missing = parts.join(known, on=["genus", "species"], how="anti").unique(["genus", "species"], keep="first")
    return missing.select(*RANK_LABELS, rank_value=pl.lit(int(Rank.SPECIES), pl.Int8)).sort(RANK_LABELS)


def _canonical_name(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return ``name``, made of the lineage of each taxon."""
    phrase = pl.col("species").str.contains(r"^\p{Lu}.* ")  # a virus whose species is named by a phrase
    binomial = pl.when(phrase).then("species").otherwise(pl.col("genus") + " " + pl.col("species"))
    lowest = pl.coalesce(pl.when(pl.col("rank") == int(rank)).then(rank.label) for rank in Rank if rank != Rank.SPECIES)
    return taxa.select(name=pl.when(pl.col("rank") == int(Rank.SPECIES)).then(binomial).otherwise(lowest))


def _implied(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return higher taxa that occur in lineages but have no record of their own."""
    missing = []
    for rank in list(Rank)[:-1]:
        above = RANK_LABELS[: rank + 1]
        named = taxa.filter(pl.col(rank.label) != "")
        known = named.filter(pl.col("rank_value") == int(rank)).select(above)
        implied = named.filter(pl.col("rank_value") > int(rank)).select(above).unique()
        missing.append(implied.join(known, on=above, how="anti").with_columns(rank_value=pl.lit(int(rank), pl.Int8)))
    below = [pl.lit(None, taxa.schema[label]).alias(label) for label in RANK_LABELS]
    table = pl.concat(missing, how="diagonal")
    table = table.with_columns(column for column in below if column.meta.output_name() not in table.columns)
    return table.with_columns(pl.col(label).fill_null(pl.lit("").cast(taxa.schema[label])) for label in RANK_LABELS)


def _parents(taxa: pl.DataFrame) -> pl.Series:
    """Return ``[n_taxa]``: the row of the nearest named taxon above, or -1.

    In depth-first order it is the last row of its rank before a taxon.
    """
    rank, rows = taxa["rank"].to_numpy(), np.arange(taxa.height, dtype=np.int32)
    parent = np.full(taxa.height, -1, np.int32)
    for above, label in enumerate(RANK_LABELS[:-1]):
        last = np.maximum.accumulate(np.where(rank == above, rows, np.int32(-1)))
        below = (rank > above) & (taxa[label] != "").to_numpy()
        parent[below] = last[below]
    return pl.Series("parent", parent)


def _between(records: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return records of other ranks (tribe, subspecies) with the row of their nearest principal taxon."""
    keyed = records.with_columns(_epithet_needs_genus())
    keyed = with_categories(keyed)
    taxa = taxa.select(*RANK_LABELS, "row").join(keyed.select(RANK_LABELS), on=list(RANK_LABELS), how="semi")
    joined = keyed.join(taxa, on=list(RANK_LABELS), how="inner", maintain_order="left")
    return with_texts(joined.filter(pl.col("name") != ""))


def _epithet_needs_genus() -> pl.Expr:
    return pl.when(pl.col("genus") == "").then(pl.lit("")).otherwise(pl.col("species")).alias("species")


def _vernaculars(source: ChecklistRecords, own_names: pl.DataFrame, rows: _TaxonRows) -> pl.DataFrame:
    own = own_names.select(
        "id",
        name="common_name",
        language=pl.lit("en"),
        preferred=pl.col("rank_value").is_not_null(),
        source=pl.lit(source.name),
        from_table=pl.lit(False),
        at=pl.lit(None, pl.UInt32),
    )
    parts = [own]
    if source.vernaculars is not None:
        columns = ("id", _tidy("name"), "language", "preferred", "source", pl.lit(True).alias("from_table"))
        parts.append(source.vernaculars.with_row_index("at").select(*columns, "at"))
    # A name of a subspecies finds its species, but is not a name of the species itself.
    names = rows.join(pl.concat(parts).filter(pl.col("name") != ""))
    return names.unique(["row", "name", "language"], keep="first", maintain_order=True)


def _drop_self(synonyms: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Drop synonyms that only repeat their accepted name."""
    accepted = taxa["name"].gather(synonyms["row"])
    kept = synonyms.filter((pl.col("name") != accepted) & (pl.col("name") != ""))
    return kept.unique(["name", "row", "kind"], keep="first", maintain_order=True)
