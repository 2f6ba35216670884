"""What vectors show of the tree equals naive counts and scikit-learn, and finds a structure that was put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from linnaea.evaluate import embedding_structure as structure
from linnaea.evaluate.embedding_structure import lay_out
from linnaea.evaluate.hierarchy import revise, shuffle
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import number_lineages

TAXA = [
    Taxon.of(kingdom="A", order=f"O{i % 2}", family=f"F{i % 4}", genus=f"G{i % 12}", species=f"s{i}") for i in range(24)
]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(3, 60), st.integers(1, 7))
def test_purity_is_sklearns(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    feature, who = unit(rng.normal(size=(n, 8))), rng.integers(0, 24, n)
    numbers = number_lineages([TAXA[i].lineage for i in who])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "MAX_CELLS", 3 * n)
        metrics = structure.score_purity(feature, numbers, k)
    near = NearestNeighbors(n_neighbors=min(k, n - 1) + 1).fit(feature).kneighbors(feature, return_distance=False)
    for rank in (Rank.ORDER, Rank.FAMILY, Rank.GENUS, Rank.SPECIES):
        same = [
            TAXA[who[i]].lineage[: rank + 1] == TAXA[who[j]].lineage[: rank + 1]
            for i in range(n)
            for j in [j for j in near[i] if j != i][: min(k, n - 1)]
        ]
        assert metrics[f"purity/{rank.label}"] == pytest.approx(np.mean(same))
    assert "purity/phylum" not in metrics


def test_spearman_goes_by_ranks_ties_at_their_mean_and_is_0_of_a_constant() -> None:
    assert structure.spearman(np.array([1, 2, 2, 9]), np.array([0.1, 0.3, 0.2, 0.9])) == pytest.approx(4.5 / 22.5**0.5)
    assert structure.spearman(np.arange(5), -np.exp(np.arange(5.0))) == pytest.approx(-1)
    assert structure.spearman(np.zeros(3), np.arange(3)) == structure.spearman(np.arange(3), np.ones(3)) == 0


def test_distances_follow_a_tree_that_was_put_in_and_no_other() -> None:
    rng = np.random.default_rng(0)
    part = {rank: {} for rank in Rank}

    def place(taxon: Taxon) -> np.ndarray:
        return sum(part[rank].setdefault(taxon.lineage[: rank + 1], rng.normal(size=32)) * 2.0**-rank for rank in Rank)

    centre = np.array([place(taxon) for taxon in TAXA])
    who = np.repeat(np.arange(24), 8)
    feature = unit(centre[who] + rng.normal(scale=0.002, size=(192, 32)))
    numbers = number_lineages([TAXA[i].lineage for i in who])
    good = structure.score_distances(feature, numbers, who)
    bad = structure.score_distances(unit(rng.normal(size=(192, 32))), numbers, who)
    assert good["distance_correlation"] > 0.75
    assert good["class_distance_correlation"] > 0.75
    assert abs(bad["distance_correlation"]) < 0.1
    assert good == structure.score_distances(feature, numbers, who)


@pytest.mark.parametrize(("outside", "low", "high"), [(True, 0.95, 1.0), (False, 0.0, 0.1)])
def test_variation_outside_the_directions_between_species_is_seen(outside: bool, low: float, high: float) -> None:
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(20), 20)
    feature = np.zeros((400, 32))
    feature[:, :4] = rng.normal(size=(20, 4))[who]
    feature[:, slice(16, 20) if outside else slice(0, 4)] += rng.normal(scale=0.3, size=(400, 4))
    metrics = structure.score_orthogonality(feature.astype(np.float32), who)
    assert low <= metrics["within_outside_between"] <= high
    assert metrics["fisher_ratio"] > 1


def test_a_revision_moves_genera_within_their_order_and_a_shuffle_keeps_the_names() -> None:
    revised, shuffled = revise(TAXA, share=0.5), shuffle(TAXA)
    moved = [(a, b) for a, b in zip(TAXA, revised, strict=True) if a != b]
    assert moved
    for old, new in zip(TAXA, revised, strict=True):
        assert [old[r] for r in Rank if r != Rank.FAMILY] == [new[r] for r in Rank if r != Rank.FAMILY]
    genera = {(t.genus, t[Rank.FAMILY]) for t in revised}
    assert len(genera) == 12, "a genus moves as a whole"
    assert [t.scientific_name for t in shuffled] == [t.scientific_name for t in TAXA]
    assert sorted(t.lineage[:5] for t in shuffled) == sorted(t.lineage[:5] for t in TAXA)
    assert revise(TAXA, share=0.5) == revised


def test_the_panels_go_down_the_largest_lineage_and_are_the_same_again() -> None:
    rng = np.random.default_rng(2)
    who = np.concatenate([np.arange(24).repeat(4), np.zeros(40, int)])
    feature = unit(rng.normal(size=(24, 8))[who] + 0.1 * rng.normal(size=(len(who), 8)))
    numbers = number_lineages([TAXA[i].lineage for i in who])
    truth = [TAXA[i] for i in who]
    levels, again = lay_out(feature, numbers, truth), lay_out(feature, numbers, truth)
    assert [RANK_LABELS[level.rank] for level in levels][:2] == ["kingdom", "order"]
    assert [level.names[0] for level in levels if level.rank >= Rank.ORDER] == ["O0", "F0", "G0", "G0 s0"]
    for one, other in zip(levels, again, strict=True):
        np.testing.assert_array_equal(one.xy_N2, other.xy_N2)
        assert max(one.colour_N) == len(one.names) - 1
