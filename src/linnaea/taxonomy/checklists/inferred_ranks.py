"""Infer the ranks that a checklist leaves out from the parts of a name, its ending, its children and its parent."""

import numpy as np
import polars as pl

from linnaea.taxonomy.checklists.rank_words import UNRANKED, is_known
from linnaea.taxonomy.checklists.records import (
    KINGDOMS_OF_OTHER_SCHOOLS,
    VIRUS_SPECIES,
    Rows,
    is_virus_phrase,
    with_texts,
)
from linnaea.taxonomy.ranks import RANK_LABELS

_FIRST = r"^(?:[×✕]\s?|x\s)?\p{Lu}[\p{L}-]+ (?:\(\p{Lu}[^)]*\) )?(?:[×✕]\s?|x\s)?"
_BINOMIAL = rf"{_FIRST}\p{{Ll}}[\p{{L}}\d.'-]*$|{VIRUS_SPECIES}"
_INFRASPECIFIC = rf"{_FIRST}\p{{Ll}}[\p{{L}}\d.'-]* [\p{{Ll}}\[×(]"
_SUBGENUS = r"^\p{Lu}[\p{L}-]+ (?:\(\p{Lu}\p{L}+\)|(?:subgen|subg|sect|ser)\. \S+)$"
_ENDINGS = {
    "family": "aceae|idae|viridae",
    "subfamily": "inae|oideae|virinae",
    "superfamily": "oidea",
    "order": "ales|virales|iformes",
    "suborder": "ineae",
    "class": "mycetes|opsida|phyceae|viricetes",
    "phylum": "mycota|phyta|viricota",
    "tribe": "ini",
}
_KINGDOMS = ("animalia", "plantae", "fungi", "chromista", "protozoa", "bacteria", "archaea", "viruses", "monera",
             "protista", "chromalveolata", *KINGDOMS_OF_OTHER_SCHOOLS)  # fmt: skip
_BELOW = {"kingdom": "phylum", "phylum": "class", "class": "order", "order": "family", "family": "genus",
          "subfamily": "genus", "tribe": "genus", "subtribe": "genus", "genus": "subgenus", "superfamily": "family",
          "suborder": "family"}  # fmt: skip
"""The rank of a name of one word below one of these ranks."""


def ranks_of_shape(name: pl.Expr, rank: pl.Expr) -> pl.Expr:
    """Return ranks in which those that are not known follow from the parts of the name; ``""`` for a single word."""
    return (
        pl.when(is_known(rank)).then(rank)
        .when(is_virus_phrase(name)).then(pl.lit("species"))
        .when(name.str.contains(_INFRASPECIFIC)).then(pl.lit("infraspecific"))
        .when(name.str.contains(_BINOMIAL)).then(pl.lit("species"))
        .when(name.str.contains(_SUBGENUS)).then(pl.lit("subgenus"))
        .otherwise(rank)
    )  # fmt: skip


def ranks_of_place(usages: pl.DataFrame, parent: Rows, roots_are_genera: bool) -> pl.Series:
    """Return ranks in which those of single words follow from the other names, their ending and their place.

    Args:
        usages: ``name, rank`` (:func:`ranks_of_shape`) and the higher ranks.
        parent: The row above each, or -1.
        roots_are_genera: Whether a name is a genus where nothing says otherwise.
    """
    ranks = usages["rank"]
    if not (ranks == "").any():
        return ranks
    plain = pl.col("name").str.replace(r"^(?:[×✕]\s?|x\s)", "")
    low = usages.filter(pl.col("rank").is_in(("species", "infraspecific")))
    of_genus = low.select(plain.str.extract(r"^(\S+) ").unique()).to_series()
    asked = (ranks == "").arg_true()
    table = with_texts(usages.select("name", *RANK_LABELS[:-1])[asked]).with_columns(word=plain)
    word, named = pl.col("word"), pl.col("word") != ""
    filled = [pl.when(named & (pl.col(label) == word)).then(pl.lit(label)) for label in RANK_LABELS[:-1]]
    elsewhere = [
        pl.when(named & word.is_in(usages[label].unique().cast(pl.String).implode())).then(pl.lit(label))
        for label in RANK_LABELS[:-1]
    ]
    genus = pl.when(word.is_in(of_genus.drop_nulls().implode())).then(pl.lit("genus"))
    kingdom = pl.when(word.str.to_lowercase().is_in(_KINGDOMS)).then(pl.lit("kingdom"))
    endings = [
        pl.when(word.str.contains(rf"^\p{{Lu}}\p{{Ll}}+(?:{ending})$")).then(pl.lit(rank))
        for rank, ending in _ENDINGS.items()
    ]
    guess = pl.coalesce(*filled, genus, *elsewhere, kingdom, *endings, pl.lit(""))
    ranks = ranks.cast(pl.String).scatter(asked, table.select(guess).to_series())
    return _from_parents(ranks, parent, roots_are_genera).cast(pl.Categorical)


def _from_parents(ranks: pl.Series, parent: Rows, roots_are_genera: bool) -> pl.Series:
    """Return ranks in which the unknown ones follow from those above, from the top down."""
    has_children = np.zeros(len(parent), bool)
    has_children[parent[parent >= 0]] = True
    words = ranks.unique().to_list()
    codes = ranks.replace_strict(words, range(len(words)), return_dtype=pl.UInt32)
    known = np.array(words, object)[codes.to_numpy()]
    unknown = np.flatnonzero(known == "")
    for row in unknown[~has_children[unknown]]:
        known[row] = "subgenus" if parent[row] >= 0 and known[parent[row]] == "genus" else "genus"
    unknown = unknown[has_children[unknown]]
    for _ in range(len(RANK_LABELS)):
        above = parent[unknown]
        found = np.array([_BELOW.get(known[a], "") if a >= 0 else "" for a in above], object)
        known[unknown] = found
        if not (found != "").any():
            break
        unknown = unknown[found == ""]
    known[known == ""] = "genus" if roots_are_genera else UNRANKED
    return pl.Series("rank", known, dtype=pl.String)
