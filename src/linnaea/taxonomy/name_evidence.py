"""Evidence of a label that decides between the taxa of one name: its authors, its lineage, its other name."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from linnaea.taxonomy.authors import agreement
from linnaea.taxonomy.keys import name_key
from linnaea.taxonomy.name_index import SYNONYM, NameIndex, fold_rank
from linnaea.taxonomy.ranks import RANK_LABELS

if TYPE_CHECKING:
    from linnaea.taxonomy.name_lookups import Lookups


# Authors, and the rank of a name below the species.


def agree_with_authors(candidates: pl.DataFrame, parsed: pl.DataFrame) -> pl.DataFrame:
    """Keep the homonyms whose authors, and whose rank below the species, agree best with those in the label."""
    if candidates.is_empty():
        return candidates
    several = candidates.filter(pl.col("best").n_unique().over("q") > 1)
    told = parsed.filter((pl.col("authorship") != "") | (pl.col("infraspecific_rank") != ""))
    several = several.join(told.select("q", asked_author="authorship", asked_rank="infraspecific_rank"), on="q")
    if several.is_empty():
        return candidates
    several = several.filter(pl.col("order") == pl.col("order").min().over("q"))
    ranks = [_rank_agreement(*pair) for pair in several.select("asked_rank", "matched").iter_rows()]
    several = several.with_columns(fit=4 * _agreements(several) + pl.Series(ranks, dtype=pl.Int32))
    best = several.filter(pl.col("fit") == pl.col("fit").max().over("q")).select("q", "best").unique()
    kept = candidates.join(best, on=["q", "best"], how="semi", maintain_order="left")
    rest = candidates.join(best.select("q").unique(), on="q", how="anti", maintain_order="left")
    return pl.concat([kept, rest])


def conflicting_authors(table: pl.DataFrame) -> pl.Series:
    """Return ``[n]``: a note where the authors in the label are not those of the name in the checklist."""
    both = table.select("asked_author", "authorship")
    fits = _agreements(both)
    note = pl.format("by {} in the label, by {} in the checklist", "asked_author", "authorship")
    return both.select(pl.when(fits < 0).then(note).otherwise(pl.lit(""))).to_series()


def _agreements(table: pl.DataFrame) -> pl.Series:
    known = (pl.col("asked_author") != "") & (pl.col("authorship") != "")
    pairs = table.filter(known).select("asked_author", "authorship").unique()
    pairs = pairs.with_columns(fit=pl.Series([agreement(*pair) for pair in pairs.iter_rows()], dtype=pl.Int32))
    return table.join(pairs, on=["asked_author", "authorship"], how="left", maintain_order="left")["fit"].fill_null(0)


_RANK_WORD = re.compile(r" (subsp|ssp|nothosubsp|var|nothovar|subvar|f|fo|forma|subf)\.? ")
_RANK_WORDS = {
    "SUBSPECIES": ("subsp", "ssp", "nothosubsp"),
    "VARIETY": ("var", "nothovar"),
    "SUBVARIETY": ("subvar",),
    "FORM": ("f", "fo", "forma"),
    "SUBFORM": ("subf",),
}


def _rank_agreement(rank: str, matched: str) -> int:
    """Return 1 if a name has the rank below the species that the label gives, -1 if it has another."""
    found = _RANK_WORD.findall(matched)
    if not rank or not found:
        return 0
    return 1 if found[-1] in _RANK_WORDS.get(rank, ()) else -1


# A lineage in the label.


def add_ancestors(candidates: pl.DataFrame, parsed: pl.DataFrame, index: NameIndex) -> pl.DataFrame:
    """Keep the homonyms that lie in most of the taxa above the name in its label, and say if they lie in none."""
    told = parsed.filter(pl.col("ancestors").list.len() > 0).select("q", "ancestors")
    asked = candidates.select("q").unique().join(told, on="q").explode("ancestors")
    if asked.is_empty():
        return candidates
    folded = {word: fold_rank("kingdom", word) for word in asked["ancestors"].unique().to_list()}
    asked = asked.with_columns(key=pl.col("ancestors").replace_strict(folded))
    asked = asked.with_columns(key=name_key(pl.col("key")))
    known = index.names.filter(pl.col("kind") <= SYNONYM).join(asked.select("key").unique(), on="key", how="semi")
    places = known.select("key").hstack(index.taxa.select(_PLACE)[known["t"]]).unique()
    told = asked.join(places, on="key", maintain_order="left")
    places = told.group_by("q", maintain_order=True).agg("place", first=pl.col("ancestors").first())
    lists = asked.group_by("q").agg("key").join(places, on="q", how="left")
    table = candidates.join(lists, on="q", how="left", maintain_order="left")
    lineage = index.taxa.select(pl.concat_list(pl.col(label).str.to_lowercase() for label in RANK_LABELS)).to_series()
    table = table.with_columns(
        lineage=lineage.gather(table["best"]), own=index.taxa.select(_PLACE).to_series().gather(table["best"])
    )
    n_shared = pl.col("key").fill_null([]).list.set_intersection("lineage").list.len().cast(pl.Int32)
    # Schools differ about classes and orders; only another phylum contradicts a name.
    near = pl.col("place").list.contains(pl.col("own")).fill_null(False).cast(pl.Int32)
    table = table.with_columns(n_shared=n_shared, near=near)
    best = 2 * pl.col("n_shared") + pl.col("near")
    within = table.filter(best == best.max().over("q"))
    outside = (pl.col("n_shared") == 0) & pl.col("first").is_not_null() & (pl.col("how") != "above")
    note = pl.when(outside).then(pl.format("not in {}", "first")).otherwise("disagree")
    agree = pl.col("agree") + pl.col("n_shared") + pl.col("near")
    return within.with_columns(disagree=note, agree=agree).select(candidates.columns)


_PLACE = pl.concat_str("kingdom", pl.lit(" "), "phylum").alias("place")


# A scientific name with a vernacular name.


def disagreeing_pairs(answers: Sequence[pl.DataFrame], parsed: pl.DataFrame, lookups: "Lookups") -> pl.DataFrame:
    """Return q, differs: notes on vernacular names that mean another taxon than the scientific name beside them."""
    empty = pl.DataFrame(schema={"q": pl.Int32, "differs": pl.String})
    pairs = parsed.filter(pl.col("is_pair"))
    found = lookups.vernacular(pairs, "strict") if pairs.height else pairs
    settled = pl.concat([a.select("q", pl.col("t").cast(pl.Int32)) for a in answers if "t" in a.columns]).drop_nulls()
    both = found.join(settled.rename({"t": "settled"}), on="q") if found.height else found
    if both.is_empty():
        return empty
    taxa = lookups.index.taxa
    meant, settled_taxa = taxa["best"].gather(both["t"]), both["settled"]
    same = pl.lit(True)
    table = both.select("q").hstack(taxa.select("name", *RANK_LABELS)[meant])
    table = table.hstack(taxa.select(pl.col(label).alias(f"of_{label}") for label in RANK_LABELS)[settled_taxa])
    for label in RANK_LABELS:
        other = f"of_{label}"
        same = same & ((pl.col(label) == "") | (pl.col(other) == "") | (pl.col(label) == pl.col(other)))
    table = table.with_columns(same=same)
    differing = table.filter(~pl.col("same").any().over("q")).unique("q", keep="first", maintain_order=True)
    named = differing.join(pairs.select("q", "vernacular"), on="q")
    return named.select("q", differs=pl.format("{} is {} here", "vernacular", "name"))
