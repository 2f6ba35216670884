"""Splits are a function of names alone; groups and held-out taxa stay whole; what the source says stands."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.splits import TRAIN, UNSEEN, SplitRule, assign_splits, held_out_name
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
    held_out = set(kept.filter((pl.col("split") == UNSEEN) & (pl.col("given") == ""))["name"]) - {""}
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
