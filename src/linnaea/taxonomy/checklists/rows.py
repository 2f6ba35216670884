"""Find the taxa of answers in a checklist: their identifiers, and their names in a language."""

import polars as pl

from linnaea.errors import UsageError
from linnaea.taxonomy.checklists.store import Checklist
from linnaea.taxonomy.ranks import RANK_LABELS

INAT_TAXA = "https://www.inaturalist.org/taxa/"
"""What makes an address of the numbers of the embedded checklist."""

ASKED = ("name", "rank", "kingdom")
"""The columns of :func:`find_rows`: full name, rank as a word, kingdom or ``""``."""


def find_rows(checklist: Checklist, asked: pl.DataFrame) -> pl.Series:
    """Return the row of each taxon of ``asked`` (:data:`ASKED`); null where the checklist has none or several.

    The kingdom decides between taxa of one name; a name that only one taxon has is found with any kingdom.
    """
    ranks = {label: number for number, label in enumerate(RANK_LABELS)}
    taxa = checklist.taxa.select("name", pl.col("rank").cast(pl.Int8), "kingdom").with_row_index("row")
    taxa = taxa.join(asked.select("name").unique(), on="name", how="semi", maintain_order="left")
    keys = asked.select("name", "kingdom", pl.col("rank").replace_strict(ranks, default=None, return_dtype=pl.Int8))
    exact = taxa.unique(["name", "rank", "kingdom"], keep="none").rename({"row": "exact"})
    only = taxa.unique(["name", "rank"], keep="none").drop("kingdom").rename({"row": "only"})
    found = keys.join(exact, on=["name", "rank", "kingdom"], how="left", maintain_order="left")
    found = found.join(only, on=["name", "rank"], how="left", maintain_order="left")
    return found.select(row=pl.coalesce("exact", "only").cast(pl.Int64))["row"]


def find_identifiers(checklist: Checklist, asked: pl.DataFrame) -> pl.Series:
    """Return the checklist's identifier of each taxon of ``asked`` (:data:`ASKED`), ``""`` where it has none."""
    rows = find_rows(checklist, asked)
    own = checklist.taxa["source_id"].gather(rows).fill_null("")
    if checklist.name != "inat":
        return own
    return pl.select(pl.when(own != "").then(pl.lit(INAT_TAXA) + own).otherwise(pl.lit("")))[:, 0]


def find_spoken(checklist: Checklist, asked: pl.DataFrame, language: str) -> pl.Series:
    """Return the name of each taxon of ``asked`` (:data:`ASKED`) in a language, ``""`` where there is none.

    Raises:
        UsageError: the checklist has no names in this language.
    """
    spoken = checklist.vernaculars
    codes = sorted(set(spoken["language"].drop_nulls())) if spoken.width else []
    wanted = language.strip().lower().replace("_", "-")
    code = next((one for one in (wanted, wanted.partition("-")[0]) if one in codes), "")
    if not code:
        has = f"it has {', '.join(codes[:12])}" if codes else "it has none in any"
        raise UsageError(f"--language {language}: checklist {checklist.name} has no names in this language; {has}")
    names = spoken.filter(pl.col("language") == code).sort("preferred", descending=True, maintain_order=True)
    names = names.unique("row", keep="first", maintain_order=True).select(pl.col("row").cast(pl.Int64), spoken="name")
    rows = find_rows(checklist, asked).to_frame("row")
    return rows.join(names, on="row", how="left", maintain_order="left")["spoken"].fill_null("")
