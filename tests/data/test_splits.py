"""Splits are a function of names alone; groups and held-out taxa stay whole; what the source says stands."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.splits import (
    BENCHMARK,
    HELD_BACK,
    TRAIN,
    UNSEEN,
    BenchmarkDraw,
    SplitRule,
    assign_splits,
    held_out_name,
    is_in_train_small,
)
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

TAXA = [
    Taxon.of(family="Corvidae", genus="Corvus", species="corax"),
    Taxon.of(family="Corvidae", genus="Corvus", species="corone"),
    Taxon.of(family="Corvidae", genus="Pica", species="pica"),
    Taxon.of(family="Apidae", genus="Apis", species="mellifera"),
    Taxon.of(family="Apidae", genus="Apis"),
    Taxon.of(common_name="some bird"),
]
GIVEN = ("", "", "train", "test", "unseen", "fold-3")

plans = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("", "", "g1", "g2")), st.sampled_from(GIVEN),
              st.integers(0, len(TAXA) - 1)),
    min_size=1, max_size=30,
)  # fmt: skip
rules = st.builds(
    SplitRule,
    val=st.sampled_from((0.0, 0.3)),
    test=st.sampled_from((0.0, 0.4)),
    unseen=st.sampled_from((0.0, 0.5, 1.0)),
    unseen_rank=st.sampled_from((Rank.SPECIES, Rank.GENUS, Rank.FAMILY)),
    seed=st.integers(0, 5),
)


def make_frame(rows: list[tuple[str, str, str, int]]) -> pl.DataFrame:
    schema = {"source": pl.String, "group": pl.String, "split": pl.String, "taxon_id": pl.Int32}
    ids = pl.Series("record_id", [f"photo {number}" for number in range(len(rows))])
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(ids)


@settings(max_examples=200, deadline=None)
@given(plans, rules)
def test_what_a_split_promises(rows: list[tuple[str, str, str, int]], rule: SplitRule) -> None:
    plan = make_frame(rows)
    done = assign_splits(plan, TAXA, rule)
    assert done.select("record_id", "source", "group", "taxon_id").equals(
        plan.select("record_id", "source", "group", "taxon_id")
    )
    kept = done.with_columns(plan["split"].alias("given")).filter(pl.col("reason") == "")
    assert (kept["split"] != "").all()
    explicit = kept.filter(pl.col("given") != "")
    assert (explicit["split"] == explicit["given"]).all(), "what the source says stands"

    names = {number: held_out_name(taxon, rule.unseen_rank) for number, taxon in enumerate(TAXA)}
    kept = kept.with_columns(pl.col("taxon_id").replace_strict(names, return_dtype=pl.String).alias("name"))
    asked = done.with_columns(given=plan["split"]).filter((pl.col("given") == UNSEEN) & (pl.col("group") != ""))
    own = kept.join(asked, on=["source", "group"], how="anti")  # without those that follow their group
    held_out = set(own.filter((pl.col("split") == UNSEEN) & (pl.col("given") == ""))["name"]) - {""}
    asked_for = set(kept.filter(pl.col("given") == UNSEEN)["name"])
    elsewhere = set(kept.filter(pl.col("split") != UNSEEN)["name"])
    assert not (held_out - asked_for) & elsewhere, "a held-out taxon has no picture elsewhere"

    for _, group in kept.filter(pl.col("group") != "").group_by("source", "group"):
        if group.filter(pl.col("given") != "")["given"].n_unique() <= 1:
            assert group["split"].n_unique() == 1, "a group straddles"


@settings(max_examples=100, deadline=None)
@given(plans, rules, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(rows: list, rule: SplitRule, random: object) -> None:
    plan = make_frame(rows)
    order = list(range(plan.height))
    random.shuffle(order)  # type: ignore[attr-defined]
    forth = assign_splits(plan, TAXA, rule).sort("record_id")
    back = assign_splits(plan[order], TAXA, rule).sort("record_id")
    assert forth.equals(back)


def test_more_pictures_never_move_the_others() -> None:
    rule = SplitRule(val=0.2, test=0.2, unseen=0.3)
    rows = [("a", "", "", number % len(TAXA)) for number in range(300)]
    few = assign_splits(make_frame(rows[:100]), TAXA, rule)
    many = assign_splits(make_frame(rows), TAXA, rule)
    assert few.equals(many[:100])


def test_a_picture_without_a_split_follows_its_group() -> None:
    rule = SplitRule(val=0, test=0)
    plan = make_frame([("a", "g", "test", 0), ("a", "g", "", 0), ("b", "g", "", 0), ("a", "", "", 0)])
    assert assign_splits(plan, TAXA, rule)["split"].to_list() == ["test", "test", TRAIN, TRAIN]


def test_of_two_splits_of_a_group_the_one_kept_back_is_followed() -> None:
    plan = make_frame([("a", "g", "train", 0), ("a", "g", "test", 0), ("a", "g", "", 0)])
    assert assign_splits(plan, TAXA, SplitRule(val=0, test=0))["split"].to_list() == ["train", "test", "test"]


def test_a_taxon_that_the_source_trains_on_is_not_held_out() -> None:
    rule = SplitRule(val=0, test=0, unseen=1.0)
    plan = make_frame([("a", "", "train", 0), ("a", "", "", 0), ("a", "", "", 2)])
    assert assign_splits(plan, TAXA, rule)["split"].to_list() == ["train", "train", UNSEEN]


def test_a_lineage_given_in_part_is_held_out_with_the_full_one() -> None:
    full, part = Taxon.of(kingdom="Animalia", genus="Pica", species="pica"), Taxon.of(genus="Pica", species="pica")
    assert held_out_name(full, Rank.SPECIES) == held_out_name(part, Rank.SPECIES) == "Pica pica"
    assert held_out_name(Taxon.of(family="Corvidae"), Rank.SPECIES) == ""


draws = st.builds(
    BenchmarkDraw, names=st.just(Path("unused")), source=st.sampled_from(("", "a", "b")),
    min_images=st.sampled_from((2, 3, 5)), n_images=st.sampled_from((1, 2)),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(plans, rules, draws, st.sets(st.sampled_from(["Corvus corax", "Corvus corone", "Pica pica"])), st.booleans())
def test_what_a_drawn_benchmark_promises(
    rows: list[tuple[str, str, str, int]], rule: SplitRule, draw: BenchmarkDraw, rare: set[str], across: bool
) -> None:
    plan = make_frame(rows)
    if across:
        plan = plan.with_columns(scope=pl.when(pl.col("group") == "").then("source").otherwise(pl.lit("")))
    done = assign_splits(plan, TAXA, replace(rule, benchmark=draw), rare)
    plain = assign_splits(plan, TAXA, rule)
    names = {number: held_out_name(taxon, Rank.SPECIES) for number, taxon in enumerate(TAXA)}
    done = done.with_columns(
        name=pl.col("taxon_id").replace_strict(names, return_dtype=pl.String), given=plan["split"], plain=plain["split"]
    )
    kept = done.filter(pl.col("reason") == "")
    drawn = done.filter(pl.col("split").is_in([BENCHMARK, HELD_BACK]))
    for (name,), pictures in drawn.group_by("name"):
        every = done.filter(pl.col("name") == name)
        assert name in rare
        assert pictures.height == every.height >= draw.min_images, "training never sees the species"
        assert (every["given"] == "").all()
        assert (pictures["split"] == BENCHMARK).sum() == draw.n_images
        assert draw.source in ("", *every["source"].unique()) and (not draw.source or every["source"].n_unique() == 1)
    others = done.filter(~pl.col("split").is_in([BENCHMARK, HELD_BACK]))
    assert (others["split"] == others["plain"]).all(), "a benchmark moves no other picture"
    keys = ["group"] if across else ["source", "group"]
    for _, group in kept.filter(pl.col("group") != "").group_by(keys):
        if (group["split"] == BENCHMARK).any():
            assert (group["split"] == BENCHMARK).all(), "a group straddles the benchmark"


def test_the_draw_and_train_small_are_the_same_on_every_machine() -> None:
    """A change of these tables means that everybody's benchmarks change."""
    plan = make_frame([("museum", "", "", 2)] * 12)
    rule = SplitRule(benchmark=BenchmarkDraw(names=Path("unused"), min_images=4, n_images=4))
    drawn = assign_splits(plan, TAXA, rule, {"Pica pica"}).filter(pl.col("split") == BENCHMARK)
    assert drawn["record_id"].to_list() == ["photo 2", "photo 4", "photo 5", "photo 10"]
    keys = pl.DataFrame({"key": [f"{'f' * 16}{last}" for last in ("00000000", "19999998", "19999999", "ffffffff")]})
    assert keys.select(is_in_train_small(pl.col("key")))["key"].to_list() == [True, True, False, False]


def test_a_benchmark_cannot_draw_more_than_there_must_be() -> None:
    with pytest.raises(ValueError, match="at most min_images"):
        BenchmarkDraw(names=Path("unused"), min_images=5, n_images=6)
