"""Turn a table of name usages into records: the one way for Darwin Core, ColDP, GBIF's species lists and plain tables.

A usage is a row with a name. It is accepted, or it stands for the accepted name of another row. Names, ranks, parents
and accepted names are found in whatever columns a table has (:data:`~linnaea.taxonomy.checklists.headers.WORDS`).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from linnaea.taxonomy.checklists.archive import NULL_MARKS
from linnaea.taxonomy.checklists.headers import WORDS
from linnaea.taxonomy.checklists.inferred_ranks import ranks_of_place, ranks_of_shape
from linnaea.taxonomy.checklists.ledger import count
from linnaea.taxonomy.checklists.rank_words import read_ranks
from linnaea.taxonomy.checklists.records import (
    BELOW_SPECIES,
    MADE_UP,
    ChecklistRecords,
    epithet_of,
    is_virus_phrase,
    language_code,
    mark_misapplied,
    parent_rows,
    with_lineage,
)
from linnaea.taxonomy.checklists.relations import ACCEPTED, NOWHERE, adopt_orphans, find_relations
from linnaea.taxonomy.checklists.usage_names import HIGHER, with_names, with_usual_case
from linnaea.taxonomy.name_parser import split_authors

_MARKS = (*NULL_MARKS, "NA", "N/A", "nan", "NaN", "None", "<NA>")
"""Cells for a missing value; R and pandas write the last ones, and none of them is a name."""
_NOT_ONE_TAXON = r"[/?]|(?i) x .* x | sp\.| spp\.?$"
_FORMULA = r"^\p{Lu}\S+ \p{Ll}\S+ [x×] "
"""Names of rows that are about several taxa, or about none that has a name ("Larus sp.", "a/b", "a x b")."""


@dataclass(frozen=True, kw_only=True)
class UsageTable:
    """The usages of a source, in the columns that it has."""

    rows: pl.DataFrame
    """Some of :data:`~linnaea.taxonomy.checklists.headers.WORDS`, all text."""
    vernaculars: pl.DataFrame | None = None
    """``id, name, language, preferred, source``"""
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_records(table: UsageTable, name: str, version: str) -> ChecklistRecords:
    """Return the records, synonyms and vernacular names of a table of usages, and what was left out of it and why."""
    usages = _one_row_for_each_accepted(with_names(_tidy(table.rows)))
    relations = find_relations(usages)
    usages = usages.with_columns(
        pl.Series("reason", relations.reason),
        pl.Series("target", relations.accepted),
        ranks_of_place(usages, relations.parent, roots_are_genera=not (relations.parent >= 0).any()),
    )
    usages = usages.with_columns(_ids_at(usages, pl.Series(adopt_orphans(usages, relations))).alias("parent"))
    usages = usages.with_columns(of=_ids_at(usages, usages["target"]), again=_accepted_again(usages)).drop(
        "parent_name"
    )
    usages, implied = _with_implied_accepted(usages)
    usages = usages.with_columns(reason=_reason())
    kept = pl.col("reason") == ""
    records = _with_lineages(pl.concat([usages.filter(kept & (pl.col("target") == ACCEPTED)), implied], how="diagonal"))
    synonyms = usages.filter(kept & (pl.col("target") != ACCEPTED))
    n = relations.n_own_parents
    own = (f"{count(n, 'row')} with itself as parent; read as without a parent",) if n else ()
    authorship = mark_misapplied(pl.col("authorship"), pl.col("full"), pl.col("status"))
    return ChecklistRecords(
        name=name,
        version=version,
        records=records,
        synonyms=synonyms.select("name", "line", authorship=authorship, id="of", kind=pl.lit("synonym")),
        vernaculars=None if table.vernaculars is None else _of_accepted(table.vernaculars, synonyms),
        left_out=usages.filter(~kept).select("line", "reason", name="full"),
        used=table.used,
        unused=table.unused,
        notes=(*table.notes, *own),
    )


def vernacular_table(table: pl.DataFrame, source: str) -> pl.DataFrame:
    """Return the vernacular names of ``id, name, language, preferred`` and, if there is one, ``source``."""
    own = pl.col("source") if "source" in table.columns else pl.lit("")
    return table.select(
        id_at_end("id"),
        "name",
        language=language_code(pl.col("language")),
        preferred=pl.col("preferred").str.to_lowercase().is_in(("true", "1", "yes")),
        source=pl.when(own != "").then(own).otherwise(pl.lit(source)),
    )


def id_at_end(column: str) -> pl.Expr:
    """Return the id at the end of an address, as iNaturalist writes ids."""
    return pl.col(column).str.replace(r"^https?://.*/(.+)$", "$1").alias(column)


# Rows.


def _tidy(rows: pl.DataFrame) -> pl.DataFrame:
    """Return every column of the vocabulary without stray blanks and null marks, and the number of each row."""
    given = [column for column in WORDS if column in rows.columns]
    cells = [pl.col(column).cast(pl.String).fill_null("").str.strip_chars() for column in given]
    tidy = rows.select(pl.when(cell.is_in(_MARKS)).then(pl.lit("")).otherwise(cell).name.keep() for cell in cells)
    tidy = tidy.filter(pl.any_horizontal(pl.all() != ""))  # blank lines
    tidy = tidy.with_columns(pl.lit("").alias(column) for column in WORDS if column not in given)
    tidy = with_usual_case(tidy, ("name", "uninomial", *HIGHER))
    tidy = tidy.with_columns(id_at_end(column) for column in ("id", "parent", "accepted")).with_row_index("line")
    tidy = _with_whole_ids(tidy)
    return tidy.with_columns(
        id=pl.when(pl.col("id") == "").then(pl.format(MADE_UP + "{}", "line")).otherwise("id"),
        rank=read_ranks(tidy["rank"]),
        common_name=pl.when(pl.col("common_name").str.to_lowercase() == pl.col("name").str.to_lowercase())
        .then(pl.lit(""))
        .otherwise("common_name"),
    )


_DECIMAL = r"^\d+\.0$"


def _with_whole_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Return references without the ".0" that pandas gives whole numbers in a column with gaps."""
    columns = pl.col("id", "parent", "accepted").str.contains(_DECIMAL).any()
    decimal = rows.select(columns).row(0, named=True)
    if decimal["id"]:
        return rows
    return rows.with_columns(
        pl.col(column).str.replace(r"^(\d+)\.0$", "$1") for column in ("parent", "accepted") if decimal[column]
    )


def _one_row_for_each_accepted(usages: pl.DataFrame) -> pl.DataFrame:
    """Return the usages with a row for each accepted name that a row lists (``"12|15"``)."""
    several = pl.col("accepted").str.contains(r"[|;,]") & ~pl.col("accepted").is_in(usages["id"].implode())
    if not usages.select(several.any()).item():
        return usages
    parts = pl.col("accepted").str.replace_all(r"\s*[|;,]\s*", "|").str.strip_chars("|").str.split("|")
    lists = pl.when(several).then(parts).otherwise(pl.concat_list("accepted"))
    return usages.with_columns(accepted=lists).explode("accepted")


def _ids_at(usages: pl.DataFrame, rows: pl.Series) -> pl.Series:
    """Return the ids of some rows; ``""`` for a negative row."""
    ids = pl.concat([usages["id"], pl.Series([""])])
    return ids.gather(pl.select(pl.when(rows < 0).then(usages.height).otherwise(rows)).to_series().cast(pl.UInt32))


def _accepted_again(usages: pl.DataFrame) -> pl.Series:
    """Return whether an accepted row has the id of an earlier one."""
    if usages["id"].n_unique() == usages.height:
        return pl.repeat(False, usages.height, dtype=pl.Boolean, eager=True)
    accepted = (pl.col("target") == ACCEPTED).cast(pl.Int32)
    return usages.select(accepted.cum_sum().over("id") > 1).to_series()


def _reason() -> pl.Expr:
    """Return why a row is left out, ``""`` if it is not."""
    accepted = pl.col("target") == ACCEPTED
    not_one = pl.col("full").str.contains(_NOT_ONE_TAXON) | pl.col("full").str.contains(_FORMULA)
    bare = pl.col("status").str.to_lowercase().str.contains(r"^bare[ _]name")
    again = accepted & pl.col("again")
    return (
        pl.when(pl.col("name") == "").then(pl.lit("no name"))
        .when(pl.col("reason") != "").then("reason")
        .when(bare).then(pl.lit("a bare name, without a taxon"))
        .when(accepted & not_one).then(pl.lit("not the name of one taxon"))
        .when(again).then(pl.lit("its id is that of an earlier row"))
        .otherwise(pl.lit(""))
    )  # fmt: skip


# Lineages.


def _with_lineages(accepted: pl.DataFrame) -> pl.DataFrame:
    """Return accepted usages with the seven ranks: those of their columns, else those of the rows above them."""
    given = accepted.select(*(pl.col(label).alias(f"given_{label}") for label in HIGHER))
    lineage = with_lineage(
        accepted.select("id", "parent", "rank", "name", "authorship", "common_name", "line", "epithet")
    )
    # A species keeps the genus of its name, whatever is above it; a name below follows the species above it.
    virus = is_virus_phrase(pl.col("name"))
    below = pl.col("rank").is_in(BELOW_SPECIES)
    binomial = below | pl.col("rank").is_in(("species", "hybrid", "nothospecies"))
    hangs = below & (pl.col("species") != "") & (pl.col("genus") != "")
    own_genus = pl.when(binomial & ~virus).then(pl.col("name").str.extract(r"^(?:[×✕]\s?|x\s)?(\S+) "))
    own_epithet = pl.when(virus).then("name").otherwise(epithet_of(pl.col("name")))
    columns = {label: pl.coalesce(_said(f"given_{label}"), label) for label in HIGHER}
    genus = pl.coalesce(own_genus, _said("given_genus"), _said("genus"), pl.lit(""))
    stated = pl.when(pl.col("epithet").str.contains(r"^\p{Ll}[\p{L}\d.'-]*$")).then("epithet")
    species = pl.coalesce(pl.when(own_epithet != "").then(own_epithet), stated, "species")
    columns["genus"] = pl.when(hangs).then("genus").otherwise(genus)
    columns["species"] = pl.when(hangs).then("species").when(binomial).then(species).otherwise(pl.lit(""))
    own = [
        pl.when((pl.col("rank") == label) & (pl.col(label) == "")).then("name").otherwise(label).alias(label)
        for label in HIGHER
    ]
    lineage = pl.concat([lineage, given], how="horizontal").with_columns(**columns).with_columns(*own)
    return _with_columns_of_parents(lineage, [label for label in HIGHER[:-1] if (given[f"given_{label}"] != "").any()])


def _with_columns_of_parents(lineage: pl.DataFrame, labels: list[str]) -> pl.DataFrame:
    """Return lineages in which what the columns of a row above say holds for those below it too."""
    parent = parent_rows(lineage)
    columns = []
    for label in labels:
        values, at = lineage[label], np.flatnonzero(((lineage[label] == "") & pl.Series(parent >= 0)).to_numpy())
        while len(at):
            above = values.gather(parent[at])
            told = (above != "").to_numpy()
            if not told.any():
                break
            values = values.scatter(at[told], above.filter(pl.Series(told)))
            at = at[~told]
        columns.append(values)
    return lineage.with_columns(columns)


def _said(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != "").then(column)


def _with_implied_accepted(usages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return usages, and the accepted names that only their synonyms state, in the place that the synonyms state.

    GBIF's species lists have such rows. A name without a place in a classification is not enough for a taxon.
    """
    placed = (pl.col("parent") != "") | pl.any_horizontal(pl.col(label) != "" for label in HIGHER[:-1])
    named = (pl.col("reason") == NOWHERE) & pl.col("accepted_name").str.contains(r"^[×✕]?\s?\p{Lu}\p{L}+") & placed
    if not usages.select(named.any()).item():
        return usages, usages.clear()
    key = pl.when(pl.col("accepted") != "").then("accepted").otherwise(pl.format(MADE_UP + "of {}", "accepted_name"))
    usages = usages.with_columns(of=pl.when(named).then(key).otherwise("of"), named=named)
    implied = usages.filter("named").unique("of", keep="first", maintain_order=True)
    names = split_authors(implied["accepted_name"])
    empty = {column: pl.lit("") for column in ("genus", "epithet", "common_name", "full")}
    implied = implied.with_columns(names["name"], names["authorship"], id="of", line=pl.lit(None, pl.UInt32), **empty)
    several = pl.col("name").str.contains(" ")
    shape = ranks_of_shape(pl.col("name"), pl.lit(""))
    implied = implied.with_columns(rank=pl.when(several).then(shape).otherwise("rank"))
    for at, label in enumerate(HIGHER):  # at its own rank the classification is that of the synonym
        at_or_above = pl.col("rank").is_in(HIGHER[: at + 1])
        implied = implied.with_columns(pl.when(at_or_above).then(pl.lit("")).otherwise(label).alias(label))
    reason = pl.when("named").then(pl.lit("")).otherwise("reason")
    return usages.with_columns(reason=reason), implied


def _of_accepted(vernaculars: pl.DataFrame, synonyms: pl.DataFrame) -> pl.DataFrame:
    """Return vernacular names with the id of the accepted usage where theirs is that of a synonym."""
    moved = synonyms.select("id", "of").unique("id", keep="first")
    joined = vernaculars.join(moved, on="id", how="left", maintain_order="left")
    return joined.with_columns(id=pl.coalesce("of", "id")).drop("of")
