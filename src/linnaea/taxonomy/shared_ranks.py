"""Find the ranks that several taxa share: homonyms, the taxa that one label names, the parents of a hybrid."""

import polars as pl

from linnaea.taxonomy.ranks import RANK_LABELS

SHARED = ("q", "list", "matched_name", *RANK_LABELS, "note")
"""Columns of what is shared: query, checklist, the matching name, the ranks that all taxa share, a note."""


def shared_by_homonyms(several: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return :data:`SHARED` for candidates that differ within a query; the note names the taxa."""
    lineages = taxa.select(*RANK_LABELS, "name")[several["best"]]
    table = several.select("q", "list", "matched").hstack(lineages)
    table = table.unique(["q", *RANK_LABELS, "name"], maintain_order=True)
    names = pl.col("name") + " (" + pl.col("kingdom") + " " + pl.col("family") + ")"
    more = pl.when(pl.len() > 4).then(pl.lit(", ...")).otherwise(pl.lit(""))
    shared = table.group_by("q", maintain_order=True).agg(
        pl.col("list").first(),
        pl.col("matched").first().alias("matched_name"),
        *_one_name_or_none(),
        note=pl.lit("may be ") + names.head(4).str.join(", ") + more,
    )
    return shared.with_columns(_down_to_first_none(RANK_LABELS)).select(SHARED)


def shared_by_parts(parts: pl.DataFrame, read: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return :data:`SHARED` for labels that name several taxa, down to the genus and at least to the family.

    Args:
        parts: q, part, t: the taxa that each part of a label may be.
        read: The parsed labels.
        taxa: The taxa of the index.
    """
    table = parts.drop("t").hstack(taxa.select("list", *RANK_LABELS)[parts["t"]])
    n_parts = pl.col("part").n_unique()
    n_all = n_parts.over("q")
    in_one_kingdom = n_parts.over("q", "kingdom") == n_all
    table = table.filter(in_one_kingdom | ~in_one_kingdom.any().over("q"))
    shared = table.group_by("q", maintain_order=True).agg(
        pl.col("list").first(), n_parts.alias("n"), *_one_name_or_none()
    )
    asked = read.select("q", size=pl.col("together").list.len(), written="genus")
    shared = shared.join(asked, on="q", maintain_order="left").filter(pl.col("n") == pl.col("size"))
    # The genus of a doubtful name is the one written, not that of the name that its species has now.
    shared = shared.filter((pl.col("size") > 1) | (pl.col("genus") == pl.col("written")))
    empty = {name: pl.lit("") for name in ("species", "matched_name", "note")}
    shared = shared.with_columns(_down_to_first_none(RANK_LABELS[:-1])).with_columns(**empty)
    # A class or kingdom that two names share says nothing about either.
    near = (pl.col("family") != "") | (pl.col("genus") != "")
    alone = (pl.col("size") > 1) | near
    return (
        shared.filter(alone)
        .with_columns(*(pl.when(near).then(pl.col(rank)).otherwise(pl.lit("")).alias(rank) for rank in RANK_LABELS))
        .select(SHARED)
    )


def _one_name_or_none() -> list[pl.Expr]:
    return [pl.when(pl.col(rank).n_unique() == 1).then(pl.col(rank).first()).alias(rank) for rank in RANK_LABELS]


def _down_to_first_none(ranks: tuple[str, ...]) -> list[pl.Expr]:
    kept, columns = pl.lit(True), []
    for rank in ranks:
        kept = kept & pl.col(rank).is_not_null()
        columns.append(pl.when(kept).then(pl.col(rank)).otherwise(pl.lit("")).alias(rank))
    return columns
