"""The splits of a data set, assigned by stable hashes and so equal on every machine.

All pictures of a group (one individual, near copies) are in one split. Held-out taxa have no picture in any other
split. The species of a benchmark drawn from rare species have no picture in training either.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

TRAIN, VAL, TEST, UNSEEN = "train", "val", "test", "unseen"
BENCHMARK, HELD_BACK = "benchmark", "held-back"
"""The splits of the pictures drawn for a benchmark and of the other pictures of its species. The others are not
rejects, because few-shot learners of these species need them; training uses them only on request."""

TRAIN_SMALL, TRAIN_SMALL_SHARE = "train-small", 0.1
"""A tenth of the training pictures, by hash; it is a view of ``train`` and not stored."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkDraw:
    """The options of a benchmark as Rare Species (BioCLIP, arXiv 2311.18803, section 4.2): some pictures of each
    species in a list, which training never sees."""

    names: Path
    """A file of species names: one per line, or a table."""
    column: str = ""
    """Column of the table that holds the names, if it has several columns."""
    source: str = ""
    """Draw from this source only, and only species that occur in no other source; empty: draw from all sources."""
    min_images: int = 30
    """A species with fewer pictures is skipped."""
    n_images: int = 30
    """Number of pictures drawn per species."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_images <= self.min_images:
            raise ValueError("a benchmark must draw at least 1 image per species, and at most min_images")


@dataclass(frozen=True, kw_only=True)
class SplitRule:
    """The shares of the pictures (``val``, ``test``) and of the held-out taxa (``unseen``)."""

    val: float = 0.05
    """Share of the pictures for the choice of checkpoints and for calibration."""
    test: float = 0.05
    """Share of the pictures for testing."""
    unseen: float = 0.0
    """Share of the taxa of rank ``unseen_rank`` that are held out with all their pictures."""
    unseen_rank: Rank = Rank.SPECIES
    """Rank at which taxa are held out: species, genus or family."""
    seed: int = 0
    """Seed of the splits."""
    benchmark: BenchmarkDraw | None = None
    """Draw a benchmark of rare species."""
    bursts: Literal["group", "keep"] = "group"
    """Keep the photographs of one burst in one split, where the source names neither a split nor a group; ``keep``
    draws each photograph by itself, and looks at none."""

    def __post_init__(self) -> None:
        if min(self.val, self.test, self.unseen) < 0 or self.val + self.test > 1 or self.unseen > 1:
            raise ValueError("shares of splits must be between 0 and 1, and val + test at most 1")

    @property
    def draws(self) -> bool:
        """Return whether photographs are drawn into several splits."""
        return bool(self.val or self.test or self.benchmark)

    def split_of(self, source: str, unit: str) -> str:
        """Return the split of one picture or group (``unit``) of a source."""
        place = unit_interval(f"{self.seed}/picture/{source}/{unit}")
        if place < self.test:
            return TEST
        return VAL if place < self.test + self.val else TRAIN

    def holds_out(self, name: str) -> bool:
        """Return whether the taxon with this name (see :func:`held_out_name`) is held out."""
        return bool(name) and unit_interval(f"{self.seed}/taxon/{name}") < self.unseen


def held_out_name(taxon: Taxon, rank: Rank) -> str:
    """Return the name that decides whether a taxon is held out at ``rank``, or ``""`` if it has none.

    Higher ranks are ignored: a lineage that is complete in one source and partial in another is one taxon.
    """
    return taxon.scientific_name if rank == Rank.SPECIES and taxon.species else taxon.lineage[rank]


def unit_interval(text: str) -> float:
    """Return a number in [0, 1) that depends only on ``text``, equal on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


def is_in_train_small(key: pl.Expr) -> pl.Expr:
    """Return whether a picture of ``train`` is in the tenth, by eight digits of its key, which is a hash already."""
    return key.str.slice(-8).str.to_integer(base=16, dtype=pl.UInt32) < int(TRAIN_SMALL_SHARE * 2**32)


def assign_splits(
    plan: pl.DataFrame, taxa: Sequence[Taxon], rule: SplitRule, rare: Collection[str] = ()
) -> pl.DataFrame:
    """Fill the empty cells of the column ``split``, and keep groups and held-out taxa together.

    ``plan`` has the columns source, record_id, group, split and taxon_id (a row of ``taxa``). If groups reach across
    sources, it also has ``scope``: "" for such a group, else the source. A split that the source gives is kept. A
    picture without one follows its group. A taxon with pictures in a given split is neither held out nor drawn for the
    benchmark (``rare`` holds the scientific names of the candidates). Returns the plan with one more column,
    ``reason``: it is non-empty for pictures that fit no split, because their group holds a picture of a held-out taxon,
    or because sources give copies of one picture several splits.
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
    """Return ``reason``: why a picture fits no split."""
    grouped = pl.col("group") != ""
    if not plan.select(grouped.any()).item():
        return plan.with_columns(reason=pl.lit(""))
    reasons = pl.lit("")
    whole = (HELD_BACK, UNSEEN, BENCHMARK)  # if a group holds several, the last one is used
    for number, split in enumerate(whole):
        outside = grouped & pl.col("by_hash") & ~pl.col("split").is_in(whole[number:])
        holds = (pl.col("by_hash") & (pl.col("split") == split)) if split != UNSEEN else pl.col("split") == split
        what = "the benchmark" if split == BENCHMARK else "a held-out taxon"
        straddles = outside & holds.any().over("scope", "group")
        reasons = pl.when(straddles).then(pl.lit(f"group holds a picture of {what}")).otherwise(reasons)
    # Only a group of copies has an empty scope; the photographs of an individual may keep the splits of their source.
    elsewhere = (pl.col("scope") == "") & grouped & (pl.col("split") != pl.col("of_group")) & ~pl.col("by_hash")
    found = pl.when(elsewhere).then(pl.lit("copy is in another split")).otherwise(reasons)
    return plan.with_columns(found.alias("reason"))


def _follow_group(plan: pl.DataFrame) -> pl.DataFrame:
    """Give a picture without a split the split of its group in the source; if there are two, the held-out one.

    The split of the group is added as ``of_group``, null if there is none.
    """
    given = plan.filter((pl.col("group") != "") & (pl.col("split") != ""))
    by_group = given.select("scope", "group", "split").unique().sort(pl.col("split") == TRAIN, "split")
    by_group = by_group.unique(["scope", "group"], keep="first", maintain_order=True).rename({"split": "of_group"})
    joined = plan.join(by_group, on=["scope", "group"], how="left", maintain_order="left")
    follows = (pl.col("split") == "") & (pl.col("group") != "")
    split = pl.when(follows).then(pl.col("of_group").fill_null("")).otherwise("split")
    return joined.with_columns(split.alias("split"))


def _draw(plan: pl.DataFrame, draw: BenchmarkDraw, seed: int, rare: Collection[str]) -> pl.DataFrame:
    """Fill ``split`` for the species of the benchmark: the first pictures by hash are drawn, the others held back.

    Pictures are drawn group by group. If the last group does not fit the benchmark, :func:`_straddling` rejects its
    remaining pictures.
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
