"""Turn a table of name usages into records: the one way for Darwin Core, ColDP, GBIF's species lists and plain tables.

A usage is a row with a name. It is accepted, or it stands for the accepted name of another row. Names, ranks, parents
and accepted names are found in whatever columns a table has (:data:`~linnaea.taxonomy.checklists.headers.WORDS`).
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from linnaea.counting import count
from linnaea.taxonomy.checklists.archive import NULL_MARKS
from linnaea.taxonomy.checklists.headers import WORDS
from linnaea.taxonomy.checklists.inferred_ranks import ranks_of_place, ranks_of_shape
from linnaea.taxonomy.checklists.rank_words import read_ranks
from linnaea.taxonomy.checklists.records import (
    BELOW_SPECIES,
    MADE_UP,
    ChecklistRecords,
    Rows,
    epithet_of,
    in_parts,
    is_virus_phrase,
    language_code,
    make_lineages,
    mark_misapplied,
    parent_rows,
    with_categories,
    with_texts,
)
from linnaea.taxonomy.checklists.relations import ACCEPTED, NOWHERE, adopt_orphans, find_relations
from linnaea.taxonomy.checklists.usage_names import HIGHER, with_names, with_usual_case
from linnaea.taxonomy.doubts import DOUBT_AT_END
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.readings import tidy

_MARKS = (*NULL_MARKS, "NA", "N/A", "nan", "NaN", "None", "<NA>")
"""Cells for a missing value; R and pandas write the last ones, and none of them is a name."""
_OF_NAMES = ("name", "full", "authorship", "rank", "synonym")
"""Columns that :func:`with_names` makes."""
_OF_RECORDS = ("id", "line", "rank", "name", "authorship", "common_name", "epithet", *HIGHER)
_NOT_ONE_TAXON = r"[/?]|(?i) x .* x | sp\.| spp\.?$"
_FORMULA = r"^\p{Lu}\S+ \p{Ll}\S+ [x×] "
"""Names of rows that are about several taxa, or about none that has a name ("Larus sp.", "a/b", "a x b")."""


@dataclass(frozen=True, kw_only=True)
class UsageTable:
    """The usages of a source, in the columns that it has."""

    rows: pl.DataFrame
    """The result of :func:`prepare_usages`."""
    vernaculars: pl.DataFrame | None = None
    """``id, name, language, preferred, source``"""
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare_usages(rows: pl.DataFrame) -> pl.DataFrame:
    """Return usages without blank rows and with tidy cells, with their names in one form (:func:`with_names`).

    It can be used on the parts of a large table. It takes some of
    :data:`~linnaea.taxonomy.checklists.headers.WORDS`, all text, and a column ``key``, which stays as it is.
    """
    given = [column for column in (*WORDS, "key") if column in rows.columns]
    kept = {*given, *_OF_NAMES}

    def prepare(part: pl.DataFrame) -> pl.DataFrame:
        usages = with_names(_tidy(part.select(given)))
        if usages["full"].equals(usages["name"]):
            usages = usages.with_columns(full=usages["name"])  # one memory for both
        return usages.select(column for column in usages.columns if column in kept)

    return in_parts(rows, prepare)


def make_records(table: UsageTable, name: str, version: str) -> ChecklistRecords:
    """Return the records, synonyms and vernacular names of a table of usages, and what was left out of it and why."""
    usages = _one_row_for_each_accepted(_with_ids(table.rows))
    table = replace(
        table, rows=usages.clear()
    )  # what is no longer needed is freed: lists of millions of rows are large
    relations = find_relations(usages)
    usages = usages.drop("parent", "parent_name").with_columns(
        pl.Series("reason", relations.reason),
        pl.Series("target", relations.accepted),
        ranks_of_place(usages, relations.parent, roots_are_genera=not (relations.parent >= 0).any()),
    )
    usages = usages.with_columns(
        parent=_ids_at(usages, adopt_orphans(usages, relations)),
        of=_ids_at(usages, relations.accepted),
        again=_accepted_again(usages, relations.ids_may_repeat),
    )
    n = relations.n_own_parents
    del relations
    usages, implied = _with_implied_accepted(usages)
    reasons = in_parts(usages.select("name", "reason", "full", "status", "target", "again"), _with_reason)
    usages = usages.drop("accepted", "accepted_name", "again").with_columns(reasons)
    kept, accepted = pl.col("reason") == "", pl.col("target") == ACCEPTED
    left_out = usages.filter(~kept).select("line", "reason", name="full")
    synonyms = usages.filter(kept & ~accepted).select("id", "of", "line", "name", "authorship", "full", "status")
    taxa = usages.select("reason", "target", "parent", *_OF_RECORDS).filter(kept & accepted).drop("reason", "target")
    del usages
    own = (f"{count(n, 'row')} with itself as parent; read as without a parent",) if n else ()
    return ChecklistRecords(
        name=name,
        version=version,
        records=_with_lineages(pl.concat([taxa, implied.select(taxa.columns)]) if implied.height else taxa),
        synonyms=in_parts(synonyms, _as_synonyms),
        vernaculars=None if table.vernaculars is None else _of_accepted(table.vernaculars, synonyms),
        left_out=left_out,
        used=table.used,
        unused=table.unused,
        notes=(*table.notes, *own),
    )


def _as_synonyms(usages: pl.DataFrame) -> pl.DataFrame:
    authorship = mark_misapplied(pl.col("authorship"), pl.col("full"), pl.col("status"))
    return usages.select("name", "line", authorship=authorship, id="of", kind=pl.lit("synonym"))


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
    """Return every column of the vocabulary without stray blanks and null marks; rows without a cell are left out."""
    given = [column for column in WORDS if column in rows.columns]
    cells = [pl.col(column).cast(pl.String).fill_null("").str.strip_chars() for column in given]
    table = rows.with_columns(
        pl.when(cell.is_in(_MARKS)).then(pl.lit("")).otherwise(cell).name.keep() for cell in cells
    )
    table = table.filter(pl.any_horizontal(pl.col(given) != ""))
    table = table.with_columns(pl.lit("").alias(column) for column in WORDS if column not in rows.columns)
    table = table.with_columns(_without_markup(table[column]) for column in _MARKED_UP)
    # "Struthionidae (Ostriches)" in eBird's and Clements' lists
    table = table.with_columns(pl.col(*HIGHER[:-1]).str.replace(r"^(\p{Lu}\p{Ll}+) \(.*\)$", "$1"))
    table = with_usual_case(table, ("name", "uninomial", *HIGHER))
    return table.with_columns(
        *(id_at_end(column) for column in ("id", "parent", "accepted")),
        rank=read_ranks(table["rank"]),
        common_name=pl.when(pl.col("common_name").str.to_lowercase() == pl.col("name").str.to_lowercase())
        .then(pl.lit(""))
        .otherwise("common_name"),
    )


_MARKED_UP = ("name", "canonical", "authorship", "common_name")
_MARKUP = r"<[A-Za-z/]|&#?\w+;|[ÃÂ][\u{80}-\u{bf}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€"
"""Tags, entities, and UTF-8 that was read as Latin-1."""


def _without_markup(texts: pl.Series) -> pl.Series:
    odd = texts.filter(texts.str.contains(_MARKUP)).unique()
    return texts.replace(odd, pl.Series([tidy(text) for text in odd], dtype=pl.String)) if len(odd) else texts


def _with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Return usages with the number of each row, an id that is never empty, and every column of the vocabulary."""
    missing = [column for column in WORDS if column not in rows.columns]
    rows = with_categories(rows.with_columns(pl.lit("").alias(column) for column in missing))
    rows = _with_whole_ids(rows.with_row_index("line"))
    if not (rows["id"] == "").any():
        return rows
    made_up = pl.format(MADE_UP + "{}", "line")
    return rows.with_columns(id=pl.when(pl.col("id") == "").then(made_up).otherwise("id"))


_DECIMAL = r"^\d+\.0$"


def _with_whole_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Return references without the ".0" that pandas gives whole numbers in a column with gaps."""
    columns = pl.col("id", "parent", "accepted").str.contains(_DECIMAL).any()
    decimal = rows.select(columns).row(0, named=True)
    if not (rows["id"] == "0").any():  # databases write 0 for none
        rows = rows.with_columns(
            pl.when(pl.col(c) == "0").then(pl.lit("")).otherwise(c).alias(c) for c in ("parent", "accepted")
        )
    if decimal["id"]:
        return rows
    return rows.with_columns(
        pl.col(column).str.replace(r"^(\d+)\.0$", "$1") for column in ("parent", "accepted") if decimal[column]
    )


def _one_row_for_each_accepted(usages: pl.DataFrame) -> pl.DataFrame:
    """Return the usages with a row for each accepted name that a row lists (``"12|15"``)."""
    several = pl.col("accepted").str.contains(r"[|;,]")
    if not usages.select(several.any()).item():
        return usages
    several &= ~pl.col("accepted").is_in(usages["id"].implode())
    if not usages.select(several.any()).item():
        return usages
    parts = pl.col("accepted").str.replace_all(r"\s*[|;,]\s*", "|").str.strip_chars("|").str.split("|")
    lists = pl.when(several).then(parts).otherwise(pl.concat_list("accepted"))
    return usages.with_columns(accepted=lists).explode("accepted")


def _ids_at(usages: pl.DataFrame, rows: Rows) -> pl.Series:
    """Return the ids of some rows; ``""`` for a negative row."""
    ids = pl.concat([usages["id"], pl.Series([""])])
    return ids.gather(pl.Series(np.where(rows < 0, usages.height, rows)))


def _accepted_again(usages: pl.DataFrame, ids_may_repeat: bool) -> pl.Series:
    """Return whether an accepted row has the id of an earlier one."""
    if not ids_may_repeat:
        return pl.repeat(False, usages.height, dtype=pl.Boolean, eager=True)
    accepted = (pl.col("target") == ACCEPTED).cast(pl.Int32)
    return usages.select(accepted.cum_sum().over("id") > 1).to_series()


def _with_reason(usages: pl.DataFrame) -> pl.DataFrame:
    """Return ``reason``: why a row is left out, ``""`` if it is not."""
    accepted = pl.col("target") == ACCEPTED
    not_one = pl.any_horizontal(pl.col("full").str.contains(p) for p in (_NOT_ONE_TAXON, _FORMULA, DOUBT_AT_END))
    bare = pl.col("status").str.to_lowercase().str.contains(r"^bare[ _]name")
    again = accepted & pl.col("again")
    reason = (
        pl.when(pl.col("name") == "").then(pl.lit("no name"))
        .when(pl.col("reason") != "").then("reason")
        .when(bare).then(pl.lit("a bare name, without a taxon"))
        .when(accepted & not_one).then(pl.lit("not the name of one taxon"))
        .when(again).then(pl.lit("its id is that of an earlier row"))
        .otherwise(pl.lit(""))
    )  # fmt: skip
    return usages.select(reason=reason)


# Lineages.


def _with_lineages(accepted: pl.DataFrame) -> pl.DataFrame:
    """Return accepted usages with the seven ranks: those of their columns, else those of the rows above them."""
    parent = parent_rows(accepted)
    given = [label for label in HIGHER[:-1] if (accepted[label] != "").any()]
    columns = accepted.drop("parent").rename({label: f"given_{label}" for label in HIGHER})
    lineages = in_parts(columns.hstack(make_lineages(accepted, parent)), _with_own_names)
    return _with_columns_of_parents(lineages, given, parent)


def _with_own_names(accepted: pl.DataFrame) -> pl.DataFrame:
    """Return usages with lineages that include the names of their own columns (``given_...``) and of themselves."""
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
    filled = accepted.with_columns(**columns).with_columns(*own)
    return filled.select("id", "line", "rank", "name", "authorship", "common_name", *HIGHER, "species")


def _with_columns_of_parents(lineages: pl.DataFrame, labels: list[str], parent: Rows) -> pl.DataFrame:
    """Return lineages in which the rank columns of a row also hold for the rows below it."""
    columns = []
    for label in labels:
        values = lineages[label].cast(pl.String)
        at = np.flatnonzero((values == "").to_numpy() & (parent >= 0))
        while len(at):
            above = values.gather(pl.Series(parent[at]))
            told = (above != "").to_numpy()
            if not told.any():
                break
            values = values.scatter(at[told], above.filter(pl.Series(told)))
            at = at[~told]
        columns.append(values.cast(pl.Categorical))
    return lineages.with_columns(columns)


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
    implied = with_texts(usages.filter("named")).unique("of", keep="first", maintain_order=True)
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
    return usages.with_columns(reason=reason).drop("named"), with_categories(implied)


def _of_accepted(vernaculars: pl.DataFrame, synonyms: pl.DataFrame) -> pl.DataFrame:
    """Return vernacular names with the id of the accepted usage where theirs is that of a synonym."""
    moved = synonyms.select("id", "of").unique("id", keep="first")
    joined = vernaculars.join(moved, on="id", how="left", maintain_order="left")
    return joined.with_columns(id=pl.coalesce("of", "id")).drop("of")
