"""Find the changes between two checklists, with evidence: renamed, moved, split, lumped, new, gone.

First, every taxon is paired with the one of the same name (homonyms by their lineage). Unpaired taxa are linked by
evidence, the strongest first; a taxon linked by stronger evidence is not considered for weaker evidence. Higher taxa
without a namesake follow their species. Nothing is guessed: a taxon with two links is split, one with none is gone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from linnaea.taxonomy.change_evidence import PRINCIPAL, Side, evident, join_unique, link_names, without
from linnaea.taxonomy.find import lineage_text
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

if TYPE_CHECKING:
    from linnaea.taxonomy.checklists.store import Checklist

KINDS = ("renamed", "moved", "split", "lumped", "new", "gone")

CHANGE_SCHEMA = {
    "kind": pl.String,
    "rank": pl.String,
    "old_name": pl.String,
    "new_name": pl.String,
    "old_lineage": pl.String,
    "new_lineage": pl.String,
    "evidence": pl.String,
    "old_row": pl.Int32,
    "new_row": pl.Int32,
}
"""Columns of the changes. Lineages are names joined by ``" > "``, and rows are those of the checklists' ``taxa``."""

CONSIDERABLE = 0.2
"""A higher taxon follows more than half of its members; a second destination with a fifth of them makes a split."""
KINGDOM_RENAMED = 0.2
"""The share of a kingdom's taxa with a namesake in another kingdom that shows that the kingdom was renamed."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two checklists."""

    changes: pl.DataFrame
    """:data:`CHANGE_SCHEMA`; a split has one row for each taxon that it may be now."""
    namesakes: pl.DataFrame
    """old_row, new_row of every taxon with the same name in both."""


def diff(old: "Checklist", new: "Checklist") -> pl.DataFrame:
    """Return the changes from ``old`` to ``new``, one row per change (:data:`CHANGE_SCHEMA`), in order of the old rows.

    A taxon is *renamed* if its name changed, *moved* if only its lineage changed, *lumped* if it is now part of a taxon
    that also contains others, and *split* if its label alone no longer says which taxon is meant.
    """
    return compare(old, new).changes


def compare(old: "Checklist", new: "Checklist") -> Comparison:
    """Return the changes and the namesakes of two checklists; about ten seconds for a million taxa each."""
    before, after = Side.of(old), Side.of(new)
    namesakes = _pair_namesakes(before.taxa, after.taxa)
    links = link_names(before, after, namesakes)
    links = pl.concat([links, _link_higher(before, after, namesakes, links)])
    changes = pl.concat(
        [
            _classify(links, namesakes),
            _moved(before, after, namesakes),
            before.rest([links["old_row"], namesakes["old_row"]], "old_row", "gone", "no taxon follows it"),
            after.rest([links["new_row"], namesakes["new_row"]], "new_row", "new", "no taxon before it"),
        ],
        how="diagonal",
    )
    return Comparison(changes=_describe(changes, before, after), namesakes=namesakes)


# The same name on both sides.


def _pair_namesakes(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return old_row, new_row of taxa with the same name; homonyms are distinguished by their lineage."""
    # If a checklist has a name twice with one lineage, the entries are paired in order.
    again = pl.int_range(pl.len()).over("rank", *RANK_LABELS, "name").alias("again")
    old, new = old.with_columns(again), new.with_columns(again)
    keys = (
        ["rank", *RANK_LABELS, "name", "again"],
        ["rank", "name", "kingdom", "family"],
        ["rank", "name", "kingdom", "order"],
        ["rank", "name", "kingdom"],
    )
    found: list[pl.DataFrame] = []
    for key in keys:
        pairs = join_unique(old, new, key)
        found.append(pairs)
        old, new = without(old, pairs["old_row"]), without(new, pairs["new_row"])
    found.append(_pair_across_kingdoms(old, new))
    return pl.concat(found)


def _pair_across_kingdoms(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return namesakes whose kingdom changed. They need evidence, because the nomenclature codes allow homonyms."""
    pairs = join_unique(old, new, ["rank", "name"], ["kingdom", "author", "source_id"])
    size = old.group_by("kingdom").len("n_kingdom")
    pairs = pairs.join(size, on="kingdom").with_columns(n_pairs=pl.len().over("kingdom", "kingdom_new"))
    certain = (
        (pl.col("n_pairs") >= KINGDOM_RENAMED * pl.col("n_kingdom"))
        | ((pl.col("author") != "") & (pl.col("author") == pl.col("author_new")))
        | (pl.col("kingdom") == "")
        | (pl.col("kingdom_new") == "")
    )
    return pairs.filter(certain).select("old_row", "new_row")


# Higher taxa follow their members.


def _link_higher(before: Side, after: Side, namesakes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Return links of taxa above species, which follow their members."""
    certain = links.unique("old_row", keep="none")
    members = pl.concat([namesakes, certain.select("old_row", "new_row")])
    old_rows, new_rows = members["old_row"].to_numpy(), members["new_row"].to_numpy()
    found = []
    for rank in reversed(Rank):
        if rank == Rank.SPECIES:
            continue
        lower = before.taxa["rank"].to_numpy()[old_rows] > rank
        flow = pl.DataFrame(
            {"old_row": before.above[old_rows[lower], rank], "new_row": after.above[new_rows[lower], rank]}
        ).filter((pl.col("old_row") >= 0) & (pl.col("new_row") >= 0))
        all_members = before.above[before.taxa["rank"].to_numpy() > rank, rank]
        rows, n_all = np.unique(all_members, return_counts=True)
        sizes = pl.DataFrame({"old_row": rows, "n_all": n_all}, schema_overrides={"old_row": pl.Int32})
        found.append(_links_of_flow(flow.join(sizes, on="old_row"), namesakes, links))
    return pl.concat(found)


def _links_of_flow(flow: pl.DataFrame, namesakes: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    counts = (
        flow.group_by("old_row", "new_row").agg(n=pl.len(), n_all=pl.col("n_all").first()).sort("old_row", "new_row")
    )
    counts = counts.with_columns(n_old=pl.col("n").sum().over("old_row"), n_new=pl.col("n").sum().over("new_row"))
    old_known = pl.concat([namesakes["old_row"], links["old_row"]]).implode()
    new_known = pl.concat([namesakes["new_row"], links["new_row"]]).implode()
    share = pl.col("n") / pl.col("n_old")
    gone = ~pl.col("old_row").is_in(old_known)
    fresh = ~pl.col("new_row").is_in(new_known)
    # A taxon that is gone is linked to its principal heir, or to all considerable ones. A taxon that still exists was
    # split if a new taxon consists of a considerable part of it.
    known = pl.col("n_old") / pl.col("n_all") > PRINCIPAL
    went = gone & known & ((share > PRINCIPAL) | (share >= CONSIDERABLE))
    parted = ~gone & fresh & (share >= CONSIDERABLE) & (pl.col("n") / pl.col("n_new") > PRINCIPAL)
    text = pl.format(
        "{} of its {} members are in it, {} are not known", "n", "n_all", pl.col("n_all") - pl.col("n_old")
    )
    return evident(counts.filter(went | parted), text)


# Kinds of changes.


def _classify(links: pl.DataFrame, namesakes: pl.DataFrame) -> pl.DataFrame:
    """Classify links as renamed, lumped or split; a split taxon that still exists is one of its own parts."""
    still = namesakes.join(links.select("old_row").unique(), on="old_row")
    links = pl.concat([links, still.with_columns(evidence=pl.lit("still accepted under its name"))])
    return links.with_columns(
        kind=pl.when(pl.len().over("old_row") > 1)
        .then(pl.lit("split"))
        .when((pl.len().over("new_row") > 1) | pl.col("new_row").is_in(namesakes["new_row"].implode()))
        .then(pl.lit("lumped"))
        .otherwise(pl.lit("renamed"))
    )


def _moved(before: Side, after: Side, namesakes: pl.DataFrame) -> pl.DataFrame:
    """Return namesakes with a different lineage; the evidence says which ranks changed."""
    labels = RANK_LABELS[:-1]
    pairs = pl.concat(
        [
            namesakes,
            before.taxa.select(labels)[namesakes["old_row"]],
            after.taxa.select(pl.col(label).alias(f"{label}_new") for label in labels)[namesakes["new_row"]],
        ],
        how="horizontal",
    )
    other = [pl.col(label) != pl.col(f"{label}_new") for label in labels]
    pairs = pairs.filter(pl.any_horizontal(other))
    said = [
        pl.when(pl.col(label) == pl.col(f"{label}_new")).then(None)
        .when(pl.col(label) == "").then(pl.format(f"{label} {{}} filled in", f"{label}_new"))
        .when(pl.col(f"{label}_new") == "").then(pl.format(f"{label} {{}} dropped", label))
        .otherwise(pl.format(f"{label} {{}} -> {{}}", label, f"{label}_new"))
        for label in labels
    ]  # fmt: skip
    evidence = pl.concat_str(said, separator=", ", ignore_nulls=True)
    return evident(pairs, evidence).with_columns(kind=pl.lit("moved"))


def _describe(changes: pl.DataFrame, before: Side, after: Side) -> pl.DataFrame:
    """Add names and lineages to the rows; a taxon that was split and moved is listed only as split."""
    split = changes.filter(pl.col("kind") == "split")["old_row"].unique().implode()
    changes = changes.filter((pl.col("kind") != "moved") | ~pl.col("old_row").is_in(split))
    for side, prefix in ((before, "old"), (after, "new")):
        rows = changes[f"{prefix}_row"]
        names = (
            side.taxa.select(
                pl.col("name").alias(f"{prefix}_name"), pl.col("rank").alias(f"{prefix}_rank"), *RANK_LABELS
            )[rows.fill_null(0)]
            if side.taxa.height
            else pl.DataFrame(
                schema={f"{prefix}_name": pl.String, f"{prefix}_rank": pl.Int8, **dict.fromkeys(RANK_LABELS, pl.String)}
            )
        )
        lineage = lineage_text(names).alias(f"{prefix}_lineage")
        described = pl.DataFrame([names[f"{prefix}_name"], names[f"{prefix}_rank"], lineage])
        if described.height == rows.len():
            described = described.with_columns(pl.when(rows.is_not_null()).then(pl.all()))
        else:  # an empty checklist
            described = pl.DataFrame({c: [None] * rows.len() for c in described.columns}, schema=described.schema)
        changes = changes.hstack(described)
    rank = pl.coalesce("old_rank", "new_rank").replace_strict(range(N_RANKS), RANK_LABELS, return_dtype=pl.String)
    changes = changes.with_columns(
        rank=rank, **{c: pl.col(c).fill_null("") for c in ("old_name", "new_name", "old_lineage", "new_lineage")}
    )
    return changes.select(pl.col(c).cast(kind) for c, kind in CHANGE_SCHEMA.items()).sort(
        "old_row", "new_row", nulls_last=True
    )
