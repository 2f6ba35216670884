"""Combine several checklists into one table of taxa and tables of keys to look their names up by.

The first checklist that contains a taxon is its backbone. Taxa of later checklists take the name and lineage of the
backbone if it has them, and the ranks that they lack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.records import BELOW_SPECIES, KINGDOMS_OF_OTHER_SCHOOLS
from linnaea.taxonomy.checklists.store import Checklist, with_keys
from linnaea.taxonomy.keys import loose_vernacular_key, name_key, vernacular_key
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

ACCEPTED, SYNONYM, BELOW, BETWEEN = range(4)
"""Kinds of scientific names: the accepted name of a taxon, a synonym, the name of a subspecies or other part of a
species, the name of a group between two ranks (tribe, subgenus)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NameIndex:
    """The taxa and names of several checklists, keyed for looking names up."""

    lists: tuple[str, ...]
    """"name version" of each checklist, in order of preference."""
    taxa: pl.DataFrame
    """t, list, rank, name, the seven ranks (filled), common_name, best (the ``t`` that stands for it)."""
    names: pl.DataFrame
    """key (:func:`name_key`), t, list, kind, matched, authorship, between (the rank of a name outside the seven)."""
    vernaculars: pl.DataFrame
    """strict, loose (keys), t, list, preferred, matched."""


def make_index(checklists: Sequence[Checklist]) -> NameIndex:
    """Make one index of checklists, the preferred one first; about 2 seconds per million taxa."""
    if not checklists:
        raise LinnaeaError("no checklist to resolve names with; give at least one")
    offsets = [0]
    for checklist in checklists:
        offsets.append(offsets[-1] + checklist.taxa.height)
    tables: list[pl.DataFrame] = []
    names, vernaculars = [], []
    for number, (checklist, offset) in enumerate(zip(checklists, offsets, strict=False)):
        at = {"list": pl.lit(number, pl.Int8)}
        keyed = checklist if "key" in checklist.taxa.columns else with_keys(checklist)
        taxa = keyed.taxa.select("key", "rank", "name", "authorship", *RANK_LABELS, "common_name", **at)
        if number:
            taxa = _fill_from_backbone(taxa, tables[0])
        tables.append(taxa)
        row_as_t = (pl.col("row") + offset).cast(pl.Int32)
        names.append(_accepted_names(taxa, offset))
        names.append(_other_names(keyed.synonyms.with_columns(t=row_as_t, **at)))
        of_list = keyed.vernaculars.select("name", "strict", "loose", "preferred", t=row_as_t, **at)
        vernaculars.append(_with_aliases(of_list))
    all_taxa = pl.concat(tables).with_row_index("t").with_columns(pl.col("t").cast(pl.Int32))
    all_names = pl.concat(names)
    return NameIndex(
        lists=tuple(f"{checklist.name} {checklist.version}" for checklist in checklists),
        taxa=all_taxa.with_columns(best=_best(all_taxa, all_names, len(checklists))).drop("key", "authorship"),
        names=all_names,
        vernaculars=pl.concat(vernaculars),
    )


def _accepted_names(taxa: pl.DataFrame, offset: int) -> pl.DataFrame:
    return taxa.select(
        key="key",
        t=pl.int_range(offset, offset + taxa.height, dtype=pl.Int32),
        list="list",
        kind=pl.lit(ACCEPTED, pl.Int8),
        matched="name",
        authorship="authorship",
        between=pl.lit(""),
    )


def _other_names(synonyms: pl.DataFrame) -> pl.DataFrame:
    is_synonym = pl.col("kind") == "synonym"
    kind = pl.when(is_synonym).then(SYNONYM).when(pl.col("kind").is_in(BELOW_SPECIES)).then(BELOW).otherwise(BETWEEN)
    return synonyms.select(
        key="key",
        t="t",
        list="list",
        kind=kind.cast(pl.Int8),
        matched="name",
        authorship="authorship",
        between=pl.when(is_synonym).then(pl.lit("")).otherwise("kind"),
    )


# Vernacular names.


def _with_aliases(names: pl.DataFrame) -> pl.DataFrame:
    """Add keys of groups: "Yellow-rumped Warbler (Myrtle)" is also the Myrtle Warbler."""
    base = pl.col("name").str.replace(r"\s*\([^)]*\)$", "")
    inside = pl.col("name").str.extract(r"\(([^)]+)\)$").str.replace(r" Group$", "")
    alias = inside + " " + base.str.extract(r"(\S+)$")
    groups = names.filter(pl.col("name").str.contains(r"^\S.* .*\([^)]+\)$") & ~inside.str.contains(r"[/&]"))
    aliases = groups.with_columns(
        strict=vernacular_key(alias), loose=loose_vernacular_key(alias), preferred=pl.lit(False)
    )
    table = pl.concat([names, aliases]).select("t", "list", "preferred", "strict", "loose", matched="name")
    return table.filter(pl.col("strict") != "")


# Several taxonomies into one.


def _fill_from_backbone(taxa: pl.DataFrame, backbone: pl.DataFrame) -> pl.DataFrame:
    """Fill empty ranks from the backbone's family (or order, genus, class) of that name, if there is only one."""
    columns = taxa.columns
    for rank in (Rank.FAMILY, Rank.ORDER, Rank.GENUS, Rank.CLASS, Rank.PHYLUM):
        above = RANK_LABELS[: int(rank)]
        if not taxa.select(pl.any_horizontal(pl.col(label) == "" for label in above).any()).item():
            break
        known = backbone.filter(pl.col("rank") == int(rank)).select(rank.label, *above)
        unique = known.filter(pl.col(rank.label).is_unique()).rename({label: f"found_{label}" for label in above})
        agrees = (
            (pl.col("kingdom") == "")
            | (pl.col("kingdom") == pl.col("found_kingdom"))
            | pl.col("found_kingdom").is_null()
        )
        taxa = (
            taxa.join(unique, on=rank.label, how="left", maintain_order="left")
            .with_columns(
                pl.when((pl.col(label) == "") & agrees & pl.col(f"found_{label}").is_not_null())
                .then(f"found_{label}")
                .otherwise(label)
                .alias(label)
                for label in above
            )
            .select(columns)
        )
    return taxa


def _best(taxa: pl.DataFrame, names: pl.DataFrame, n_lists: int) -> pl.Series:
    """Return ``[n_taxa]``: for each taxon its namesake in the first checklist that has one, else itself."""
    if n_lists == 1:
        return taxa["t"].alias("best")
    places = taxa.select("t", "kingdom", "family", "order")
    found = (
        names.filter(pl.col("kind") <= SYNONYM)
        .select("key", "list", "kind", other="t")
        .join(places.rename({"t": "other"}), on="other")
    )
    later = taxa.filter(pl.col("list") > 0).select(
        "t", "list", "rank", "kingdom", "family", "order", key=name_key(pl.col("name"))
    )
    pairs = later.join(found, on="key", suffix="_other").filter(pl.col("list_other") < pl.col("list"))
    same_kingdom = (
        (pl.col("kingdom") == pl.col("kingdom_other")) | (pl.col("kingdom") == "") | (pl.col("kingdom_other") == "")
    )
    near = (pl.col("family") == pl.col("family_other")).cast(pl.Int8) * 2 + (pl.col("order") == pl.col("order_other"))
    pairs = pairs.filter(same_kingdom).join(taxa.select(other="t", rank_other="rank"), on="other")
    pairs = pairs.filter(pl.col("rank") == pl.col("rank_other")).with_columns(near=near)
    order = ["t", "list_other", "kind", "near"]
    pairs = pairs.sort(order, descending=[False, False, False, True])
    top = pairs.filter(
        pl.struct("list_other", "kind", "near") == pl.struct("list_other", "kind", "near").first().over("t")
    )
    unique = top.filter(pl.col("other").n_unique().over("t") == 1).unique("t", keep="first").select("t", "other")
    links = taxa.select("t").join(unique, on="t", how="left", maintain_order="left")
    best = links.select(pl.coalesce("other", "t")).to_series()
    return best.gather(best).alias("best")


# Scope.


def in_scope(taxa: pl.DataFrame, scope: Mapping[str, str]) -> pl.Series:
    """Return ``[n_taxa]``: whether each taxon may lie within a scope such as ``{"class": "Aves"}``.

    A rank that is not known contradicts nothing.

    Raises:
        LinnaeaError: A key is not a rank, or no taxon has that name at that rank.
    """
    inside = pl.lit(True)
    for label, value in _implied_scope(taxa, scope).items():
        wanted = [fold_rank(label, word) for word in value.split("|")]
        lower = pl.col(label).str.to_lowercase()
        below = pl.col("rank") < int(Rank.parse(label))
        inside = inside & (lower.is_in(wanted) | ((lower == "") & ~below))
    return taxa.select(inside.alias("inside")).to_series() if scope else pl.repeat(True, taxa.height, eager=True)


def _implied_scope(taxa: pl.DataFrame, scope: Mapping[str, str]) -> dict[str, str]:
    """Add the ranks above the scope: Lepidoptera are Insecta, which helps where the order is empty."""
    implied: dict[str, str] = {}
    for label, value in scope.items():
        if label not in RANK_LABELS:
            raise LinnaeaError(f"context {label!r} is not a rank; write one of {', '.join(RANK_LABELS)}")
        wanted = [fold_rank(label, word) for word in value.split("|")]
        above = RANK_LABELS[: int(Rank.parse(label))]
        members = taxa.filter(pl.col(label).str.to_lowercase().is_in(wanted))
        if members.is_empty():
            raise LinnaeaError(
                f"context {label}={value}: no taxon of the checklists has that {label}; check the spelling"
            )
        for higher in above:
            names = members.filter((pl.col(higher) != "") & (pl.col("list") == pl.col("list").min()))[higher].unique()
            if len(names) == 1:
                implied[higher] = names.item()
    return {**implied, **scope}


def fold_rank(label: str, value: str) -> str:
    """Return the name of a rank in lower case, a kingdom under the name that we write."""
    folded = " ".join(value.split()).lower()
    return KINGDOMS_OF_OTHER_SCHOOLS.get(folded, folded).lower() if label == "kingdom" else folded


GIVEN_RANKS = RANK_LABELS[: int(Rank.FAMILY) + 1]
"""Ranks that distinguish homonyms. Genera change too often to contradict a name."""


def keep_agreeing(candidates: pl.DataFrame, queries: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Keep the homonyms that agree best with the given ranks of their query; add ``agree`` and ``disagree``."""
    given = [label for label in GIVEN_RANKS if label in queries.columns]
    if not given or candidates.is_empty():
        return candidates.with_columns(agree=pl.lit(0), disagree=pl.lit(""))
    asked = queries.select("q", *(pl.col(label).alias(f"given_{label}") for label in given))
    table = candidates.join(asked, on="q", maintain_order="left")
    lineage = taxa.select(given)[table["best"]]
    agree, differ = pl.lit(0), []
    for label in given:
        fold = {value: fold_rank(label, value) for value in table[f"given_{label}"].unique().to_list()}
        wanted = table[f"given_{label}"].replace_strict(fold, default="")
        found = lineage[label].str.to_lowercase()
        known = (wanted != "") & (found != "")
        table = table.with_columns(
            (known & (wanted == found)).cast(pl.Int32).alias(f"same_{label}"),
            pl.when(known & (wanted != found))
            .then(pl.format("{} {} given, {} found", pl.lit(label), wanted, lineage[label]))
            .otherwise(pl.lit(""))
            .alias(f"differ_{label}"),
        )
        agree = agree + pl.col(f"same_{label}")
        differ.append(pl.col(f"differ_{label}"))
    disagreements = pl.concat_list(differ).list.eval(pl.element().filter(pl.element() != ""))
    table = table.with_columns(agree=agree, n_differ=disagreements.list.len(), disagree=disagreements.list.join("; "))
    score = pl.col("agree").cast(pl.Int32) - pl.col("n_differ").cast(pl.Int32)
    table = table.filter(score == score.max().over("q"))
    return table.select(*candidates.columns, "agree", "disagree")
