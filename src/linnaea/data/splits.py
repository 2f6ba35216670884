"""Which picture is trained on and which is kept: by stable hashes, so the same on every machine.

A group (photographs of one individual, near copies) never straddles a split. Held-out taxa have no picture in
any other split.
"""

import hashlib
from dataclasses import dataclass

import polars as pl

from linnaea.taxonomy.ranks import RANK_LABELS, Rank

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

    def holds_out(self, lineage: tuple[str, ...]) -> bool:
        """Whether the taxon with this lineage is held out."""
        if not self.unseen or not lineage[self.unseen_rank]:
            return False
        name = "/".join(lineage[: self.unseen_rank + 1])
        return unit_interval(f"{self.seed}/taxon/{name}") < self.unseen


def unit_interval(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone, on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def assign_splits(plan: pl.DataFrame, rule: SplitRule) -> pl.DataFrame:
    """Fill the column ``split`` where it is empty, and keep groups together.

    ``plan`` has columns key, source, record_id, group, split and the seven ranks. A split given by the
    source stands. Returns the plan with one more column, ``reason``: non-empty for the pictures that no split
    can take, because their group holds a picture of a held-out taxon.
    """
    ranks = plan.select(RANK_LABELS).rows()
    units = plan.select(pl.when(pl.col("group") != "").then("group").otherwise("record_id")).to_series()
    chosen = [
        given or (UNSEEN if rule.holds_out(lineage) else rule.split_of(source, unit))
        for given, lineage, source, unit in zip(plan["split"], ranks, plan["source"], units, strict=True)
    ]
    by_hash = (pl.col("split") == "") & (pl.col("group") != "")
    straddles = (pl.col("chosen") != UNSEEN) & (pl.col("chosen") == UNSEEN).any().over("source", "group")
    reason = pl.when(by_hash & straddles).then(pl.lit("its group holds a picture of a held-out taxon"))
    return (
        plan.with_columns(pl.Series("chosen", chosen, dtype=pl.String))
        .with_columns(reason.otherwise(pl.lit("")).alias("reason"))
        .with_columns(pl.col("chosen").alias("split"))
        .drop("chosen")
    )
