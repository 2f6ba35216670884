"""Which picture is trained on and which is kept: by stable hashes, so the same on every machine.

A group (photographs of one individual, near copies) never straddles a split. Held-out taxa have no picture in
any other split. A benchmark drawn from rare species leaves no picture of these species in training either.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

TRAIN, VAL, TEST, UNSEEN = "train", "val", "test", "unseen"
BENCHMARK, HELD_BACK = "benchmark", "held-back"
"""The pictures drawn for a benchmark, and the others of its species: a split of their own, not rejects, because they
are whole, accounted for, and just what few-shot learners of these species need; nothing trains on them unasked."""

TRAIN_SMALL, TRAIN_SMALL_SHARE = "train-small", 0.1
"""One of ten training pictures, by hash: a view of ``train``, stored nowhere."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkDraw:
    """A benchmark of the kind of Rare Species (BioCLIP, arXiv 2311.18803, section 4.2): some pictures each of species
    from a list, which training never sees."""

    names: Path
    """A file of names of species: one a line, or a table."""
    column: str = ""
    """Column of the table that holds the names, where it has several."""
    source: str = ""
    """Draw from this source alone, and only species that occur in no other; empty: from all sources together."""
    min_images: int = 30
    """A species with fewer pictures is passed over."""
    n_images: int = 30
    """Pictures drawn of each species."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_images <= self.min_images:
            raise ValueError("a benchmark draws at least 1 image of a species, and not more than min_images")


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
    benchmark: BenchmarkDraw | None = None
    """Draw a benchmark of rare species."""

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


def is_in_train_small(key: pl.Expr) -> pl.Expr:
    """Whether a picture of ``train`` is one of the ten: its key is a hash already, of which eight digits decide."""
    return key.str.slice(-8).str.to_integer(base=16, dtype=pl.UInt32) < int(TRAIN_SMALL_SHARE * 2**32)


def assign_splits(
    plan: pl.DataFrame, taxa: Sequence[Taxon], rule: SplitRule, rare: Collection[str] = ()
) -> pl.DataFrame:
    """Fill the column ``split`` where it is empty, and keep groups and held-out taxa together.

    ``plan`` has columns source, record_id, group, split and taxon_id (a row of ``taxa``); and ``scope`` where groups
    reach across sources: "" for such a group, else the source. A split that the source gives stands: a picture
    without one follows its group, and a taxon with pictures in a given split is not held out, nor drawn for the
    benchmark (``rare`` are the scientific names of the species that may be). Returns the plan with one more column,
    ``reason``: non-empty for the pictures that no split can take, because their group holds a picture of a held-out
    taxon, or because sources give copies of one picture several splits.
    """
    if "scope" not in plan.columns:
        plan = plan.with_columns(scope="source")
    plan = _follow_group(plan).with_columns(by_hash=pl.col("split") == "")
    if rule.benchmark is not None:
        species = pl.Series("species", [held_out_name(taxon, Rank.SPECIES) for taxon in taxa], dtype=pl.String)
        plan = _draw(plan.with_columns(species.gather(plan["taxon_id"])), rule.benchmark, rule.seed, rare)
    names = pl.Series("name", [held_out_name(taxon, rule.unseen_rank) for taxon in taxa], dtype=pl.String)
    plan = plan.with_columns(names.gather(plan["taxon_id"]))
    given = set(plan.filter((pl.col("split") != "") & (pl.col("split") != UNSEEN))["name"].unique())
    held_out = {name for name in names.unique() if name not in given and rule.holds_out(name)}
    chosen = [
        split or (UNSEEN if name in held_out else rule.split_of(scope, group or record_id))
        for split, name, scope, group, record_id in plan.select(
            "split", "name", "scope", "group", "record_id"
        ).iter_rows()
    ]
    plan = plan.with_columns(pl.Series("split", chosen, dtype=pl.String))
    return _straddling(plan).drop("by_hash", "name", "of_group", "scope")


def _straddling(plan: pl.DataFrame) -> pl.DataFrame:
    """Why no split can take a picture: ``reason``."""
    grouped = pl.col("group") != ""
    if not plan.select(grouped.any()).item():
        return plan.with_columns(reason=pl.lit(""))
    reasons = pl.lit("")
    whole = (HELD_BACK, UNSEEN, BENCHMARK)  # the last one is kept where a group holds several
    for number, split in enumerate(whole):
        outside = grouped & pl.col("by_hash") & ~pl.col("split").is_in(whole[number:])
        holds = (pl.col("by_hash") & (pl.col("split") == split)) if split != UNSEEN else pl.col("split") == split
        what = "the benchmark" if split == BENCHMARK else "a held-out taxon"
        straddles = outside & holds.any().over("scope", "group")
        reasons = pl.when(straddles).then(pl.lit(f"its group holds a picture of {what}")).otherwise(reasons)
    # Only a group of copies has an empty scope: of an individual's photographs each may stay where its source put it.
    elsewhere = (pl.col("scope") == "") & grouped & (pl.col("split") != pl.col("of_group")) & ~pl.col("by_hash")
    found = pl.when(elsewhere).then(pl.lit("a copy of it is in another split")).otherwise(reasons)
    return plan.with_columns(found.alias("reason"))


def _follow_group(plan: pl.DataFrame) -> pl.DataFrame:
    """Give a picture without a split the one that the source gave its group; the kept-back one where it gave two.

    That split of the group is added as ``of_group``, null where there is none.
    """
    given = plan.filter((pl.col("group") != "") & (pl.col("split") != ""))
    by_group = given.select("scope", "group", "split").unique().sort(pl.col("split") == TRAIN, "split")
    by_group = by_group.unique(["scope", "group"], keep="first", maintain_order=True).rename({"split": "of_group"})
    joined = plan.join(by_group, on=["scope", "group"], how="left", maintain_order="left")
    follows = (pl.col("split") == "") & (pl.col("group") != "")
    split = pl.when(follows).then(pl.col("of_group").fill_null("")).otherwise("split")
    return joined.with_columns(split.alias("split"))


def _draw(plan: pl.DataFrame, draw: BenchmarkDraw, seed: int, rare: Collection[str]) -> pl.DataFrame:
    """Fill ``split`` for the species of the benchmark: the first pictures by hash, and the others held back.

    Pictures are drawn group by group; those of the last group that the benchmark has no room for share a group with
    it, and :func:`_straddling` refuses them.
    """
    fits = (pl.col("split") == "").all() & (pl.len() >= draw.min_images)
    if draw.source:
        fits = fits & (pl.col("source") == draw.source).all()
    rows = plan.with_row_index("row")
    some = rows.filter(pl.col("species").is_in(list(rare))).filter(fits.over("species"))
    units = [
        unit_interval(f"{seed}/benchmark/{scope}/{group or record_id}")
        for scope, group, record_id in some.select("scope", "group", "record_id").iter_rows()
    ]
    some = some.with_columns(pl.Series("unit", units, dtype=pl.Float64)).sort("unit", "source", "record_id")
    place = pl.int_range(pl.len()).over("species")
    split = pl.when(place < draw.n_images).then(pl.lit(BENCHMARK)).otherwise(pl.lit(HELD_BACK))
    drawn = rows.join(some.select("row", drawn=split), on="row", how="left", maintain_order="left")
    return drawn.with_columns(split=pl.coalesce("drawn", "split")).drop("row", "drawn", "species")
