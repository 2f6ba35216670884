"""Write the names of usages in one form: without authors and marks, composed of their parts where they are in parts."""

from collections.abc import Sequence

import polars as pl

from linnaea.taxonomy.checklists.inferred_ranks import ranks_of_shape
from linnaea.taxonomy.checklists.records import VIRUS_SPECIES, is_virus_phrase
from linnaea.taxonomy.label_words import spell_number
from linnaea.taxonomy.name_parser import split_authors
from linnaea.taxonomy.ranks import RANK_LABELS

HIGHER = RANK_LABELS[:-1]

SYNONYM_STATUS = (
    r"(?i)synon|sin[oóô]n|misappl|not accepted|unaccepted|^invalid|^not valid|n[ãa]o aceito|no aceptado|rejected"
    r"|homonym$"
)
"""Words of a status that says that a name is not accepted."""
_CAPITALS = r"^\p{Lu}{4,}(?: \p{Lu}{2,})*$"
_SMALL = r"^\p{Ll}{3,}(?:-\p{Ll}+)?(?: |$)"
_NUMBERED = r" (\d{1,3}-?\p{Ll}{4,})"


def with_names(usages: pl.DataFrame) -> pl.DataFrame:
    """Return usages with ``full`` (the name as it is written), ``name`` (without author) and what follows from it."""
    written = pl.col("name").str.replace_all("†|‡", "").str.replace_all("_", " ").str.strip_chars()
    written = pl.when(written != "").then(written).otherwise("canonical")
    usages = usages.with_columns(full=written)
    if (usages["full"] == "").any():
        usages = usages.with_columns(full=pl.when(pl.col("full") != "").then("full").otherwise(_composed()))
    usages = usages.drop("uninomial", "generic", "infraspecific", "species").with_columns(
        full=pl.col("full").str.replace_all(r"\s+", " ")
    )
    usages = usages.with_columns(_with_numbers_in_words(usages["full"]), _with_numbers_in_words(usages["epithet"]))
    full, author = pl.col("full"), pl.col("authorship")
    without = full.str.head(full.str.len_chars() - author.str.len_chars()).str.strip_chars()
    cut = pl.when((author != "") & full.str.ends_with(author)).then(without).otherwise(full)
    given = pl.col("canonical") != ""
    whole = given | full.str.contains(r"\[") | full.str.contains(VIRUS_SPECIES) | is_virus_phrase(full)
    plain = usages.select(name=pl.when(whole).then(pl.lit("")).otherwise(cut))["name"]
    split = split_authors(plain)
    usages = usages.with_columns(
        name=pl.when(given).then("canonical").when(split["name"] != "").then(split["name"]).otherwise("full"),
        authorship=pl.when(author != "").then("authorship").otherwise(split["authorship"]),
        synonym=pl.col("status").str.contains(SYNONYM_STATUS),
    )
    return usages.drop("canonical").with_columns(rank=ranks_of_shape(pl.col("name"), pl.col("rank")))


def _composed() -> pl.Expr:
    """Return the name that the parts of a row make, or the lowest taxon of its lineage if it has none."""
    of_species = pl.col("species").str.replace(r"^\p{Lu}\S+ ", "").str.replace(r"^[×x] ?(\p{Ll})", "$1")
    is_formula = of_species.str.contains(r" ?[×x] ")
    last = pl.when(is_formula).then(of_species).otherwise(pl.col("species").str.extract(r"(\S+)$").fill_null(""))
    epithet = pl.when(~pl.col("epithet").is_in(("", "×", "x"))).then("epithet").otherwise(last)
    genus = pl.when(pl.col("generic") != "").then("generic").otherwise("genus")
    parts = pl.concat_str(genus, pl.lit(" "), epithet, pl.lit(" "), "infraspecific").str.strip_chars()
    whole = pl.col("species").str.contains(r"^\p{Lu}\S+ \p{Ll}")
    higher = [pl.when(pl.col(label) != "").then(label) for label in ("generic", *reversed(HIGHER))]
    return (
        pl.when(pl.col("uninomial") != "").then("uninomial")
        .when(whole & (pl.col("infraspecific") == "")).then("species")
        .when((genus != "") & (epithet != "")).then(parts)
        .otherwise(pl.coalesce(*higher, pl.lit("")))
    )  # fmt: skip


def with_usual_case(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return names in capitals ("CORVIDAE", "PICA PICA") or in small letters as names are written; mixed ones stay."""
    odd = rows.select(pl.col(*columns).str.contains(f"{_CAPITALS}|{_SMALL}").any()).row(0, named=True)
    return rows.with_columns(_usual_case(column) for column, found in odd.items() if found)


def _usual_case(column: str) -> pl.Expr:
    name = pl.col(column)
    capitals = name.str.head(1) + name.str.slice(1).str.to_lowercase()
    small = name.str.head(1).str.to_uppercase() + name.str.slice(1)
    written = pl.when(name.str.contains(_CAPITALS)).then(capitals).when(name.str.contains(_SMALL)).then(small)
    return written.otherwise(name).alias(column)


def _with_numbers_in_words(names: pl.Series) -> pl.Series:
    """Return names with the numbers of their epithets in Latin ("7-punctata"), as labels are read."""
    odd = names.filter((" " + names).str.contains(_NUMBERED)).unique()
    spelt = [" ".join(map(spell_number, name.split(" "))) for name in odd]
    return names.replace(odd, pl.Series(spelt, dtype=pl.String)) if len(odd) else names
