"""Which picture is trained on and which is kept: by stable hashes, so the same on every machine.

A group (photographs of one individual, near copies) never straddles a split. Held-out taxa have no picture in
any other split.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

TRAIN, VAL, TEST, UNSEEN = "train", "val", "test", "unseen"


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """Shares of the pictures (``val``, ``test``) and of the taxa held out whole (``unseen``)."""

    val: float = 0.05
    """Share of the pictures for choosing checkpoints and calibration."""
    test: float = 0.05
    """Share of the pictures to report on."""
    unseen: float = 0.0
    """Share of the taxa of rank ``unseen_rank`` that are held out with all their pictures."""
    unseen_rank: Rank = Rank.SPECIES
    """Rank at which taxa are held out: species, genus or family."""
    seed: int = 0
    """Another seed gives other splits."""

    def __post_init__(self) -> None:
        if min(self.val, self.test, self.unseen) < 0 or self.val + self.test > 1 or self.unseen > 1:
            raise ValueError("shares of splits lie between 0 and 1, and val + test is at most 1")

    def split_of(self, source: str, unit: str) -> str:
        """The split of one picture or group (``unit``) of a source."""
        place = unit_interval(f"{self.seed}/picture/{source}/{unit}")
        if place < self.test:
            return TEST
        return VAL if place < self.test + self.val else TRAIN

    def holds_out(self, name: str) -> bool:
        """Whether the taxon with this name (see :func:`held_out_name`) is held out."""
        return bool(name) and unit_interval(f"{self.seed}/taxon/{name}") < self.unseen


def held_out_name(taxon: Taxon, rank: Rank) -> str:
    """The name that decides whether a taxon is held out at ``rank``; ``""`` if it has none.

    The ranks above do not count: a lineage that one source gives in full and another in part is one taxon.
    """
    return taxon.scientific_name if rank == Rank.SPECIES and taxon.species else taxon.lineage[rank]


def unit_interval(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone, on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def assign_splits(plan: pl.DataFrame, taxa: Sequence[Taxon], rule: SplitRule) -> pl.DataFrame:
    """Fill the column ``split`` where it is empty, and keep groups and held-out taxa together.

    ``plan`` has columns source, record_id, group, split and taxon_id (a row of ``taxa``). A split that the source
    gives stands: a picture without one follows its group, and a taxon with pictures in a given split is not held
    out. Returns the plan with one more column, ``reason``: non-empty for the pictures that no split can take,
    because their group holds a picture of a held-out taxon.
    """
    plan = _follow_group(plan)
    names = pl.Series("name", [held_out_name(taxon, rule.unseen_rank) for taxon in taxa], dtype=pl.String)
    plan = plan.with_columns(names.gather(plan["taxon_id"]))
    given = set(plan.filter((pl.col("split") != "") & (pl.col("split") != UNSEEN))["name"].unique())
    held_out = {name for name in names.unique() if name not in given and rule.holds_out(name)}
    chosen = [
        split or (UNSEEN if name in held_out else rule.split_of(source, group or record_id))
        for split, name, source, group, record_id in plan.select(
            "split", "name", "source", "group", "record_id"
        ).iter_rows()
    ]
    plan = plan.with_columns((pl.col("split") == "").alias("by_hash"), pl.Series("split", chosen, dtype=pl.String))
    unseen = pl.col("split") == UNSEEN
    straddles = pl.col("by_hash") & (pl.col("group") != "") & ~unseen & unseen.any().over("source", "group")
    reason = pl.when(straddles).then(pl.lit("its group holds a picture of a held-out taxon")).otherwise(pl.lit(""))
    return plan.with_columns(reason.alias("reason")).drop("by_hash", "name")


def _follow_group(plan: pl.DataFrame) -> pl.DataFrame:
    """Give a picture without a split the one that the source gave its group; the kept-back one where it gave two."""
    given = plan.filter((pl.col("group") != "") & (pl.col("split") != ""))
    by_group = given.select("source", "group", "split").unique().sort(pl.col("split") == TRAIN, "split")
    by_group = by_group.unique(["source", "group"], keep="first", maintain_order=True).rename({"split": "of_group"})
    joined = plan.join(by_group, on=["source", "group"], how="left", maintain_order="left")
    follows = (pl.col("split") == "") & (pl.col("group") != "")
    split = pl.when(follows).then(pl.col("of_group").fill_null("")).otherwise("split")
    return joined.with_columns(split.alias("split")).drop("of_group")
