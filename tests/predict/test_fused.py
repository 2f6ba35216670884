"""Very many labels in 8 bits: answers in two passes are those of exact products, softmax, calibration and sums."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict import classifier, fused
from linnaea.predict.calibration import Calibration
from linnaea.predict.classifier import Ranked, guess_at_rank, sum_to_all_ranks
from linnaea.predict.fused import iter_ranked, rank_blocks
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.labels import OFFSET, TRAINED, LabelBank
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon

SHARP = Calibration(sharpness=(0.9, 1.1, 1.0, 0.8, 1.2, 1.05, 0.7))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_bank(n_taxa: int, *, width: int = 64, doubled: bool = False, seed: int = 0) -> LabelBank:
    """Species of genera of 1 to 40, ranks without a name among them; ``doubled`` has two rows for some."""
    rng = np.random.default_rng(seed)
    genus = np.sort(rng.integers(0, max(n_taxa // 8, 1), n_taxa))
    taxa = [
        Taxon.of(kingdom=f"K{g % 2}", phylum=f"P{g % 3}", order=f"O{g % 5}" if g % 4 else "", family=f"F{g % 11}",
                 genus=f"G{g}" if g % 17 else "", species=f"s{i}" if g % 17 else "", common_name=f"c{i}")
        for i, g in enumerate(genus)
    ]  # fmt: skip
    table = make_taxa_table(taxa)
    if doubled:
        table = pl.concat([table, table[::3]]).sort("taxon_id", maintain_order=True)
    return LabelBank(table, unit(rng.normal(size=(len(table), width))), {})


def rank_both(bank: LabelBank, n: int, scale: float, calibration: Calibration, noise: float) -> tuple[Ranked, Ranked]:
    rng = np.random.default_rng(3)
    near = np.asarray(bank.vectors[rng.integers(0, len(bank), n)])
    images = unit(near + noise * rng.normal(size=near.shape))
    (fast,) = iter_ranked(images, bank, Int8Rows.of(bank.vectors), scale, calibration)
    (slow,) = rank_blocks(images, bank, None, scale, calibration)
    return fast, slow


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 1_500), st.integers(1, 9), st.sampled_from([8.0, 46.0, 100.0]), st.booleans(), st.booleans(),
       st.integers(0, 99))  # fmt: skip
def test_answers_are_those_of_exact_products(
    n_taxa: int, n: int, scale: float, doubled: bool, untrained: bool, seed: int
) -> None:
    """Each first taxon is the same or as likely, and each probability and sum within 8e-4.

    With 50 rows scored exactly in place of 1,000, the rounding of 8 bits shows most; drawn banks reached 2.3e-4.
    """
    bank = make_bank(n_taxa, doubled=doubled, seed=seed)
    calibration = SHARP
    if untrained:
        trained = np.random.default_rng(seed).random(len(bank)) < 0.5
        bank = LabelBank(bank.taxa.with_columns(pl.Series(TRAINED, trained)), bank.vectors, {})
        calibration = Calibration(sharpness=SHARP.sharpness, untrained=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "SUMMED_EXACTLY", 50)
        patch.setattr(fused, "CELLS_AT_ONCE", 2_000)
        fast, slow = rank_both(bank, n, scale, calibration, noise=0.05)
    assert fast.sums_of is not None
    np.testing.assert_allclose(fast.energy_B, slow.energy_B, atol=1e-4)
    np.testing.assert_allclose(fast.max_cosine_B, slow.max_cosine_B, atol=1e-6)
    np.testing.assert_allclose(fast.probability_BK, slow.probability_BK, atol=8e-4)
    of_slow = sum_to_all_ranks(slow.probability_BK, bank)
    for rank, sums in fast.sums_of.items():
        np.testing.assert_allclose(sums, of_slow[rank], atol=8e-4)
        assert sums.min() >= 0 and sums.max() <= 1
        images = np.arange(n)
        assert (of_slow[rank].max(axis=1) - of_slow[rank][images, sums.argmax(axis=1)] <= 8e-4).all()


def test_ranks_add_up_along_the_lineage() -> None:
    bank = make_bank(1_500)
    fast, _ = rank_both(bank, 7, 30.0, SHARP, noise=0.1)
    assert fast.sums_of is not None and list(fast.sums_of) == list(reversed(Rank))
    for rank, sums in sum_to_all_ranks(np.ascontiguousarray(fast.probability_BK), bank).items():
        np.testing.assert_allclose(sums, fast.sums_of[rank], atol=2e-6)


def test_labels_far_from_all_others_have_finite_probabilities() -> None:
    """A genus whose probability is less than float32 can say shares it among its species."""
    bank = make_bank(400)
    steep = Calibration(sharpness=(1.0,) * (N_RANKS - 1) + (3.0,))
    fast, _ = rank_both(bank, 4, 400.0, steep, noise=0.0)
    assert np.isfinite(fast.probability_BK).all()
    np.testing.assert_allclose(fast.probability_BK.sum(axis=1), 1, atol=1e-5)
    assert (fast.probability_BK.max(axis=1) > 0.999).all()


def test_offsets_of_a_cut_bank_are_added() -> None:
    bank = make_bank(300)
    taxa = bank.taxa.with_columns(pl.Series(OFFSET, np.linspace(-0.1, 0.1, 300), pl.Float32))
    fast, slow = rank_both(LabelBank(taxa, bank.vectors, {}), 5, 20.0, SHARP, noise=0.1)
    np.testing.assert_allclose(fast.probability_BK, slow.probability_BK, atol=2e-4)
    np.testing.assert_allclose(fast.max_cosine_B, slow.max_cosine_B, atol=1e-5)


def test_the_best_of_columns_are_the_best_of_rows() -> None:
    bank = make_bank(1_000)
    fast, _ = rank_both(bank, 6, 20.0, SHARP, noise=0.3)
    rows = np.ascontiguousarray(fast.probability_BK)
    assert guess_at_rank(fast.probability_BK, bank, Rank.SPECIES, 5) == guess_at_rank(rows, bank, Rank.SPECIES, 5)


def test_blocks_of_images_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = make_bank(500)
    images = unit(np.random.default_rng(0).normal(size=(7, 64)))
    rounded = Int8Rows.of(bank.vectors)
    (whole,) = iter_ranked(images, bank, rounded, 20.0, SHARP)
    monkeypatch.setattr(classifier, "MAX_CELLS", 1_500)
    parts = list(iter_ranked(images, bank, rounded, 20.0, SHARP))
    assert [len(part.image_BE) for part in parts] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate([p.probability_BK for p in parts]), whole.probability_BK, atol=1e-6)


def test_vectors_that_are_not_finite_are_refused() -> None:
    bank = make_bank(100)
    images = unit(np.random.default_rng(0).normal(size=(2, 64)))
    images[1, 3] = np.nan
    with np.errstate(invalid="ignore"), pytest.raises(LinnaeaError, match="model gives photographs"):
        list(iter_ranked(images, bank, Int8Rows.of(bank.vectors), 20.0))
