"""Pool heads of higher ranks with labels: shares stay, sums are geometric means, and neighbours change nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict.calibration import Calibration, calibrate_probabilities
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.fused import rank_blocks
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.labels import LabelBank
from linnaea.predict.rank_heads import pool_heads
from linnaea.predict.restrict import keep_clades
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

WIDTH, SCALE = 8, 12.0
TAXA = [
    Taxon(("Animalia", "Chordata", "Aves", f"O{order}", f"F{order}", f"G{order}", f"s{n}"))
    for order in range(4)
    for n in range(1 + 3 * order)
]
POOLED = Calibration(heads=(Rank.ORDER,))


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def make_bank(orders: tuple[int, ...] = (0, 1, 2, 3)) -> LabelBank:
    """A bank of four orders, with a head that knows some of them and one more."""
    rng = np.random.default_rng(0)
    named = [Taxon(("Animalia", "Chordata", "Aves", f"O{order}", "", "", "")) for order in (*orders, 9)]
    head = LabelBank(make_taxa_table(named), unit(rng.normal(size=(len(named), WIDTH))), {})
    return LabelBank(make_taxa_table(TAXA), unit(rng.normal(size=(len(TAXA), WIDTH))), {}, {Rank.ORDER: head})


def draw(n: int = 5) -> np.ndarray:
    return unit(np.random.default_rng(1).normal(size=(n, WIDTH)))


def test_the_probability_of_an_order_is_the_normalised_geometric_mean_of_both_opinions() -> None:
    bank, images = make_bank(), draw()
    (block,) = iter_scored(images, bank, SCALE)
    pooled = pool_heads(block.probability_BK, images, bank, (Rank.ORDER,), SCALE)
    logits = SCALE * images @ np.asarray(bank.heads[Rank.ORDER].vectors)[:4].T  # O9 is not among the labels
    told = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.sqrt(told * sum_to_all_ranks(block.probability_BK, bank)[Rank.ORDER])
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.allclose(sum_to_all_ranks(pooled, bank)[Rank.ORDER], expected, atol=1e-6)
    assert np.allclose(pooled.sum(axis=1), 1, atol=1e-6)


def test_species_keep_their_shares_within_an_order() -> None:
    bank, images = make_bank(), draw()
    (block,) = iter_scored(images, bank, SCALE)
    pooled, order = (
        pool_heads(block.probability_BK, images, bank, (Rank.ORDER,), SCALE),
        bank.groups.of_rows(Rank.ORDER),
    )
    for p, q in zip(block.probability_BK, pooled, strict=True):
        for group in range(4):
            own = order == group
            assert np.allclose(p[own] / p[own].sum(), q[own] / q[own].sum(), atol=1e-6)


def test_orders_that_the_head_does_not_know_keep_their_probability() -> None:
    bank, images = make_bank(orders=(0, 2)), draw()
    (block,) = iter_scored(images, bank, SCALE)
    before, after = (sum_to_all_ranks(p, bank)[Rank.ORDER] for p in (
        block.probability_BK, pool_heads(block.probability_BK, images, bank, (Rank.ORDER,), SCALE)))  # fmt: skip
    assert np.allclose(before[:, [1, 3]], after[:, [1, 3]], atol=1e-6)
    assert not np.allclose(before[:, [0, 2]], after[:, [0, 2]], atol=1e-2)
    alone = make_bank(orders=(2,))
    assert pool_heads(block.probability_BK, images, alone, (Rank.ORDER,), SCALE) is block.probability_BK


def test_a_photograph_gets_the_same_answer_alone_and_in_a_batch() -> None:
    bank, images = make_bank(), draw(9)
    (together,) = rank_blocks(images, bank, None, SCALE, POOLED)
    alone = [next(iter(rank_blocks(image[None], bank, None, SCALE, POOLED))).probability_BK[0] for image in images]
    assert np.array_equal(together.probability_BK, np.stack(alone))


def test_heads_change_answers_only_if_the_calibration_says_so() -> None:
    bank, images = make_bank(), draw()
    (block,) = iter_scored(images, bank, SCALE, exact=True)
    (plain,) = rank_blocks(images, bank, None, SCALE)
    assert np.array_equal(plain.probability_BK, block.probability_BK)
    (pooled,) = rank_blocks(images, bank, Int8Rows.of(bank.vectors), SCALE, POOLED)  # rounded vectors are not used
    assert np.array_equal(
        pooled.probability_BK, calibrate_probabilities(block.probability_BK, bank, POOLED, images, SCALE)
    )
    with pytest.raises(ValueError, match="needs the vectors of the images"):
        calibrate_probabilities(block.probability_BK, bank, POOLED)
    assert Calibration.of_json(POOLED.to_json()) == POOLED


def test_a_bank_keeps_its_heads_when_it_is_saved_cut_or_renamed(tmp_path: Path) -> None:
    bank, images = make_bank(), draw()
    bank.save(tmp_path / "bank", dtype=np.float32)
    opened = LabelBank.open(tmp_path / "bank")
    assert list(opened.heads) == [Rank.ORDER]
    assert opened.facts == bank.facts
    (ours,) = rank_blocks(images, bank, None, SCALE, POOLED)
    (theirs,) = rank_blocks(images, opened, None, SCALE, POOLED)
    assert np.allclose(ours.probability_BK, theirs.probability_BK, atol=0.01)  # heads are kept in 8 bits
    fewer = keep_clades(opened, exclude=("order:O3",))
    (kept,) = rank_blocks(images, fewer, None, SCALE, POOLED)
    assert kept.probability_BK.shape == (5, len(TAXA) - 10)
    assert np.allclose(kept.probability_BK.sum(axis=1), 1, atol=1e-6)
    replace(opened, heads={}).save(tmp_path / "bank")
    assert not LabelBank.open(tmp_path / "bank").heads


def test_heads_of_another_width_are_refused(tmp_path: Path) -> None:
    bank = make_bank()
    bank.save(tmp_path / "bank")
    head = bank.heads[Rank.ORDER]
    LabelBank(head.taxa, np.asarray(head.vectors)[:, 1:].copy(), {}).save(tmp_path / "bank" / "heads" / "order")
    with pytest.raises(LinnaeaError, match="heads are of another width"):
        LabelBank.open(tmp_path / "bank")


def test_labels_without_an_order_are_left_alone() -> None:
    bank = make_bank()
    taxa = bank.taxa.with_columns(order=pl.when(pl.col("order") == "O0").then(pl.lit("")).otherwise("order"))
    nameless = replace(bank, taxa=taxa.with_columns(family=pl.lit(""), genus=pl.lit("")))
    assert nameless.matched_heads[Rank.ORDER][1].tolist() == [1, 2, 3]
