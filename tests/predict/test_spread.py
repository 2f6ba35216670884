"""A photograph far from its label is trusted less, however likely the label is."""

import json

import numpy as np
import pytest

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict.calibration import Calibration
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.predict.spread import N_DIRECTIONS, fit_spread
from linnaea.predict.trust import DISTANCE, SIGNS, Trust, follow, follow_trusted, read_signs
from linnaea.predict.trust_fit import fit_spread_of_species
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon

WIDTH = 48


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_known(n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Photographs that scatter ten times as far in four directions as in the others."""
    rng = np.random.default_rng(0)
    labels = unit(rng.normal(size=(n, WIDTH)))
    scatter = rng.normal(scale=0.02, size=(n, WIDTH)) * np.where(np.arange(WIDTH) < 4, 10, 1)
    return unit(labels + scatter), labels


def test_distances_are_those_of_the_formula() -> None:
    images, labels = make_known()
    spread = fit_spread(images, labels)
    directions = spread.axes
    assert directions.shape == (N_DIRECTIONS, WIDTH) and len(spread.variances) == N_DIRECTIONS + 1
    assert spread.length == pytest.approx((images * labels).sum(axis=1).mean(), abs=1e-5)
    covariance = spread.variances[-1] * (np.eye(WIDTH) - directions.T @ directions)
    covariance += directions.T @ np.diag(spread.variances[:-1]) @ directions
    apart = images.astype(np.float64) - spread.length * labels
    expected = np.log(np.einsum("be,ef,bf->b", apart, np.linalg.inv(covariance), apart)) / 2
    np.testing.assert_allclose(spread.distances(images, labels), expected, atol=1e-2)  # the directions are float16


@pytest.mark.parametrize("n", [50, 100, 400])
def test_new_photographs_are_as_far_as_those_that_were_learned_from(n: int) -> None:
    """Also if these were few: they must not seem nearer because the directions were found for them."""
    images, labels = make_known()
    distances = fit_spread(images[:n], labels[:n]).distances(images, labels)
    assert distances[n:].mean() == pytest.approx(distances[:n].mean(), abs=0.08)


def test_known_photographs_are_as_far_as_a_gaussian_is() -> None:
    images, labels = make_known()
    squares = np.exp(2 * fit_spread(images, labels).distances(images, labels))
    assert squares.mean() == pytest.approx(WIDTH, rel=0.02)


def test_a_difference_counts_for_less_where_known_photographs_differ() -> None:
    spread = fit_spread(*make_known())
    label = np.eye(WIDTH, dtype=np.float32)[[20, 20]]
    image = spread.length * label + 0.2 * np.eye(WIDTH, dtype=np.float32)[[0, 30]]
    usual, unusual = spread.distances(image, label)
    assert unusual > usual + np.log(5)


def test_a_distance_does_not_depend_on_the_other_photographs() -> None:
    images, labels = make_known(64)
    spread = fit_spread(images, labels)
    together = spread.distances(images, labels)
    alone = [spread.distances(images[row : row + 1], labels[row : row + 1])[0] for row in range(64)]
    assert together.tolist() == alone


def test_a_spread_survives_a_file_and_says_if_it_is_damaged() -> None:
    spread = fit_spread(*make_known())
    calibration = Calibration(trust=Trust(((0.0,) * (2 + len(SIGNS)),) * N_RANKS, spread))
    facts = json.loads(json.dumps(calibration.to_json()))
    assert Calibration.of_json(facts) == calibration
    kept = facts["spread"]
    for damage in ({"variances": [0.0]}, {"variances": kept["variances"][1:]}, {"directions": "?"}, {"length": None},
                   {"length": float("nan")}):  # fmt: skip
        with pytest.raises(LinnaeaError, match="the calibration is damaged"):
            Calibration.of_json(facts | {"spread": kept | damage})
    with pytest.raises(LinnaeaError, match="the calibration is damaged"):
        Calibration.of_json(facts | {"trust": [[float("nan")] * (2 + len(SIGNS))] * N_RANKS})
    with pytest.raises(LinnaeaError, match="another width"):
        spread.distances(np.ones((1, 12), np.float32), np.ones((1, 12), np.float32))


def make_bank() -> LabelBank:
    """Five species, the last one with two labels."""
    taxa = [Taxon.of(kingdom="K", genus=f"G{n // 2}", species=f"s{min(n, 4)}", common_name=f"{n}") for n in range(6)]
    return LabelBank(make_taxa_table(taxa), unit(np.random.default_rng(1).normal(size=(6, WIDTH))), {})


def test_an_unusual_photograph_is_trusted_less_at_the_same_probability() -> None:
    bank, spread = make_bank(), fit_spread(*make_known())
    weights = ((-6.0, 1.0, 0.0, 0.0, 0.0, -2.0),) * N_RANKS
    image = bank.vectors[:1]
    across = np.linalg.svd(np.concatenate([bank.vectors, spread.axes[:4]]))[2][-1:]
    images = unit(np.concatenate([image, image + 0.5 * across]))
    (block,) = iter_scored(images, bank, 40.0)
    sums_of = sum_to_all_ranks(block.probability_BK, bank)
    before, path = follow(sums_of, bank), follow_trusted(sums_of, bank, Trust(weights, spread), block.image_BE)
    assert (before.group_BR == path.group_BR).all() and len(set(map(tuple, path.group_BR))) == 1
    usual, unusual = path.probability_BR[:, Rank.GENUS]
    assert before.probability_BR[1, Rank.GENUS] > 0.99 and usual > 0.9 and unusual < 0.5


def test_the_nearest_of_a_species_labels_is_measured() -> None:
    bank, spread = make_bank(), fit_spread(*make_known())
    (block,) = iter_scored(bank.vectors[[4, 5]], bank, 40.0)
    path = follow(sum_to_all_ranks(block.probability_BK, bank), bank)
    signs_BRS = read_signs(path, bank, spread, block.image_BE)
    assert signs_BRS.shape[2] == len(SIGNS) + 1, DISTANCE
    own = spread.distances(bank.vectors[[4, 5]], bank.vectors[[4, 5]])
    np.testing.assert_allclose(signs_BRS[:, Rank.KINGDOM, -1], own, rtol=1e-6)


def test_a_spread_is_learned_around_the_nearest_of_a_species_labels() -> None:
    bank = make_bank()
    rows = np.arange(600) % 6
    scatter = np.random.default_rng(2).normal(scale=0.02, size=(600, WIDTH))
    images = unit(bank.vectors[rows] + scatter)
    assert fit_spread_of_species(images, np.minimum(rows, 4), bank) == fit_spread(images, bank.vectors[rows])


def test_distances_need_the_vectors() -> None:
    bank, spread = make_bank(), fit_spread(*make_known())
    (block,) = iter_scored(bank.vectors, bank, 40.0)
    path = follow(sum_to_all_ranks(block.probability_BK, bank), bank)
    with pytest.raises(ValueError, match="need the vectors"):
        read_signs(path, bank, spread)
    assert read_signs(path, bank).shape[2] == len(SIGNS)
