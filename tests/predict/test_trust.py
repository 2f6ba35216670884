"""An answer is trusted as far as answers like it were right, also where the truth has no label."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.shards import make_taxa_table
from linnaea.data.sources.table import TableSource
from linnaea.errors import LinnaeaError
from linnaea.predict.calibrate import calibrate
from linnaea.predict.calibration import Calibration, find_groups, read_calibration
from linnaea.predict.calibration_fit import fit_calibration
from linnaea.predict.classifier import iter_scored, likeliest_paths, sum_to_all_ranks
from linnaea.predict.labels import N_PHOTOGRAPHS, LabelBank, mark_trained
from linnaea.predict.pack import pack
from linnaea.predict.predictor import decide
from linnaea.predict.restrict import keep_rows
from linnaea.predict.spread import fit_spread
from linnaea.predict.trust import SIGNS, Trust, Weights, follow, read_signs, weigh_signs
from linnaea.predict.trust_fit import Rehearsal, fit_trust, rehearse
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import train

WIDTH = 24
PLAIN = ((0.0, 1.0, 0.0, 0.0, 0.0),) * N_RANKS
"""Weights with which trust is the probability."""


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_bank(counts: list[int] | None = None) -> LabelBank:
    taxa = [
        Taxon.of(kingdom="K", order=f"O{i % 2}", family=f"F{i % 4}", genus=f"G{i % 8}", species=f"s{i}")
        for i in range(24)
    ]
    table = make_taxa_table(taxa)
    if counts is not None:
        table = table.with_columns(pl.Series(N_PHOTOGRAPHS, counts))
    return LabelBank(table, unit(np.random.default_rng(0).normal(size=(24, WIDTH))), {})


def sums(bank: LabelBank, images: np.ndarray, scale: float = 8.0) -> dict[Rank, np.ndarray]:
    (block,) = iter_scored(images, bank, scale)
    return sum_to_all_ranks(block.probability_BK, bank)


def test_the_path_is_the_likeliest() -> None:
    bank = make_bank()
    images = unit(np.random.default_rng(1).normal(size=(30, WIDTH)))
    (block,) = iter_scored(images, bank, 8.0)
    path = follow(sum_to_all_ranks(block.probability_BK, bank), bank)
    for image, guesses in enumerate(likeliest_paths(sum_to_all_ranks(block.probability_BK, bank), bank)):
        for guess in guesses:
            assert guess.rank is not None
            assert bank.group(guess.rank, int(path.group_BR[image, guess.rank])) == guess.taxon
            assert path.probability_BR[image, guess.rank] == pytest.approx(guess.score, abs=1e-6)


def test_signs_are_read_from_the_labels() -> None:
    bank = make_bank([*range(24)])
    sums_of = sums(bank, bank.vectors[:1])
    path = follow(sums_of, bank)
    signs_RS = read_signs(path, bank)[0]
    genus = int(path.group_BR[0, Rank.GENUS])
    first, last = bank.groups.rows(Rank.GENUS, genus)
    p, above = path.probability_BR[0, Rank.GENUS], path.probability_BR[0, Rank.FAMILY]
    expected = [np.log(p / (1 - p)), np.log(p / above / (1 - p / above)), np.log(2), np.log1p(sum(range(first, last)))]
    np.testing.assert_allclose(signs_RS[Rank.GENUS], expected, rtol=1e-5)
    assert len(SIGNS) == signs_RS.shape[1]


def test_trust_is_logistic_and_never_rises_along_the_path() -> None:
    rng = np.random.default_rng(2)
    signs_BRS, table = rng.normal(size=(50, N_RANKS, len(SIGNS))), rng.normal(size=(N_RANKS, 1 + len(SIGNS)))
    trust_BR = weigh_signs(signs_BRS, tuple(tuple(row) for row in table))
    alone = 1 / (1 + np.exp(-(table[:, 0] + (signs_BRS * table[:, 1:]).sum(axis=-1))))
    assert (np.diff(trust_BR, axis=1) <= 0).all()
    np.testing.assert_allclose(trust_BR[:, 0], alone[:, 0])
    np.testing.assert_allclose(trust_BR, np.minimum.accumulate(alone, axis=1))


def test_weights_of_the_probability_alone_change_no_answer() -> None:
    bank = make_bank()
    sums_of = sums(bank, unit(bank.vectors[:12] + np.random.default_rng(3).normal(scale=0.2, size=(12, WIDTH))), 14.0)
    before, after = (
        decide(sums_of, bank, 0.7),
        decide(sums_of, bank, 0.7, None, Trust(PLAIN)),
    )
    assert [one and one.taxon for one in before] == [one and one.taxon for one in after]


@pytest.mark.parametrize("weights", [(), PLAIN, tuple((one[0] - 1.5, *one[1:]) for one in PLAIN)])
def test_the_answer_is_the_deepest_taxon_of_the_path_that_is_sure_enough(weights: Weights) -> None:
    """The page decides again in the browser, by the path, when the user moves the limit."""
    bank = make_bank()
    sums_of = sums(bank, unit(bank.vectors[:12] + np.random.default_rng(3).normal(scale=0.2, size=(12, WIDTH))), 14.0)
    paths = likeliest_paths(sums_of, bank, Trust(weights))
    for limit in (0.3, 0.7, 0.9):
        sure = [[guess for guess in path if guess.score >= limit][-1:] for path in paths]
        assert sure == [[guess] if guess else [] for guess in decide(sums_of, bank, limit, None, Trust(weights))]


def draw(n: int, seed: int, *, strangers: bool) -> Rehearsal:
    """Sure answers that are right where the taxon is well known; strangers are called by taxa of few photographs."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, size=n) if strangers else rng.integers(20, 60, size=n)
    signs = np.zeros((n, N_RANKS, len(SIGNS)))
    signs[..., 0] = signs[..., 1] = rng.normal(3, 1, size=n)[:, None]
    signs[..., 3] = np.log1p(counts)[:, None]
    right = rng.random(n) < (0.2 if strangers else 0.97)
    return Rehearsal(signs, np.repeat(right[:, None], N_RANKS, axis=1), np.ones((n, N_RANKS), bool))


def test_a_little_known_taxon_is_trusted_less_at_the_same_probability() -> None:
    home, abroad = draw(400, 4, strangers=False), [draw(400, 5, strangers=True), draw(50, 6, strangers=True)]
    weights = fit_trust(home, [], abroad)
    strange, known = ([[[3.0, 3.0, 0.0, np.log1p(n)]] * N_RANKS] for n in (2, 40))
    assert weigh_signs(np.array(strange), weights)[0, Rank.SPECIES] < 0.4
    assert weigh_signs(np.array(known), weights)[0, Rank.SPECIES] > 0.9
    for part, share in ((home, 0.97), (abroad[0], 0.2)):
        assert weigh_signs(part.signs_NRS, weights)[:, 0].mean() == pytest.approx(share, abs=0.06)


def test_what_was_never_wrong_is_sure_and_what_was_never_right_is_not() -> None:
    all_right = replace(draw(20, 7, strangers=False), right_NR=np.ones((20, N_RANKS), bool))
    all_wrong = replace(draw(20, 8, strangers=True), right_NR=np.zeros((20, N_RANKS), bool))
    assert weigh_signs(all_right.signs_NRS, fit_trust(all_right, [], [all_right])).min() > 0.999
    assert weigh_signs(all_wrong.signs_NRS, fit_trust(all_wrong, [], [all_wrong])).max() < 0.001


def test_ranks_without_a_name_are_not_judged() -> None:
    home, abroad = draw(200, 9, strangers=False), draw(200, 10, strangers=True)
    unjudged = replace(abroad, right_NR=~abroad.right_NR, judged_NR=np.zeros((200, N_RANKS), bool))
    assert fit_trust(home, [], [unjudged]) == fit_trust(home, [], [replace(unjudged, right_NR=abroad.right_NR)])


def test_answers_to_strangers_are_right_as_often_as_asked() -> None:
    """Half of the genera have no label; a softmax calls their photographs by others and is sure of it."""
    whole = make_bank([30] * 24)
    rng = np.random.default_rng(11)
    genera = np.array([int(taxon.genus[1:]) for taxon in whole.taxa_list])
    known = np.flatnonzero(genera < 4)
    bank = keep_rows(whole, known)
    rows = rng.integers(24, size=1200)
    images = unit(whole.vectors[rows] + rng.normal(scale=0.25, size=(1200, WIDTH)))
    groups = find_groups([whole.taxa_list[row] for row in rows], bank)
    is_home = np.isin(rows, known)
    judged = np.array([[bool(name) for name in whole.taxa_list[row].lineage] for row in rows])
    learned = np.arange(1200) < 600
    home = images[learned & is_home], groups[learned & is_home]
    rehearsed = Calibration(trust=Trust(spread=fit_spread(home[0], bank.vectors[home[1][:, Rank.SPECIES]])))
    abroad = [rehearse(images[some], groups[some], judged[some], bank, rehearsed, 16.0)
              for some in [learned & ~is_home]]  # fmt: skip
    calibration = fit_calibration(*home, bank, 16.0, abroad=abroad)
    assert calibration.sharpness == (1.0,) * N_RANKS

    def share_right(*, with_trust: bool) -> float:
        (block,) = iter_scored(images[~learned], bank, 16.0 / calibration.temperature)
        sums_of = sum_to_all_ranks(block.probability_BK, bank)
        trust = calibration.trust if with_trust else Trust()
        chosen = zip(decide(sums_of, bank, 0.9, None, trust, block.image_BE), rows[~learned], strict=True)
        right = [whole.taxa_list[row].at(guess.rank).lineage == guess.taxon.lineage
                 for guess, row in chosen if guess is not None and guess.rank is not None]  # fmt: skip
        assert len(right) > 100
        return float(np.mean(right))

    assert share_right(with_trust=False) < 0.85
    assert share_right(with_trust=True) > 0.88


def test_a_calibration_keeps_its_trust_and_refuses_another_number_of_weights() -> None:
    calibration = Calibration(trust=Trust(PLAIN))
    assert Calibration.of_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    with pytest.raises(LinnaeaError, match="the calibration is damaged"):
        Calibration.of_json(calibration.to_json() | {"trust": [[0.0]] * N_RANKS})


def test_a_calibration_from_before_the_distance_is_read() -> None:
    facts = Calibration(trust=Trust(PLAIN)).to_json()
    del facts["spread"]
    assert Calibration.of_json(facts).trust == Trust(PLAIN)


def test_photographs_are_counted_by_lineage() -> None:
    taxa = make_taxa_table([Taxon.of(genus="A", species="a"), Taxon.of(genus="B", species="b")])
    trained = taxa[:1].with_columns(pl.lit(7).alias(N_PHOTOGRAPHS))
    assert mark_trained(taxa, trained)[N_PHOTOGRAPHS].to_list() == [7, 0]
    assert N_PHOTOGRAPHS not in mark_trained(taxa, trained.drop(N_PHOTOGRAPHS)).columns


@pytest.fixture(scope="module")
def two_sources(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic photographs, half of the species from each of two sources, many of them for validation."""
    folder = tmp_path_factory.mktemp("sources")
    table = pl.read_csv(photographs / "metadata.csv", infer_schema=False)
    species = table["species"].unique().sort()
    table = table.with_columns(
        source=pl.when(pl.col("species").is_in(species[:9].implode())).then(pl.lit("home")).otherwise(pl.lit("abroad")),
        split=pl.when(pl.int_range(pl.len()) % 8 < 7).then(pl.lit("val")).otherwise(pl.lit("train")),
    )
    table.write_csv(folder / "table.csv")
    source = TableSource(
        table=folder / "table.csv", root=photographs, path_column="filepath", split_column="split",
    )  # fmt: skip
    build([source], folder / "data", BuildConfig(shard_size=20), LocalEngine(1))
    return folder / "data"


def run(data: Path, output: Path, sources: tuple[str, ...], objective: str = "hierarchical") -> Path:
    tower = Tower(image_size=32, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200)
    descent = Descent(steps=2, warmup=1, objective=objective)  # type: ignore[arg-type]
    recipe = Recipe(tower=tower, feed=Feed(batch_size=8, sources=sources), descent=descent)
    return train(recipe, data=data, output=output, device="cpu").run


def test_rehearsals_teach_trust(two_sources: Path, tmp_path: Path) -> None:
    rehearsal = run(two_sources, tmp_path / "rehearsal", ("home",))
    folder = pack(run(two_sources, tmp_path / "whole", (), "info_nce"), tmp_path / "packed", species_only=True).folder
    bank = LabelBank.open(folder / "labels")
    assert bank.n_photographs.sum() == 12
    found = calibrate(str(folder), labels=folder / "labels", data=two_sources, strangers=True, rehearsals=[rehearsal])
    assert len(found.calibration.trust.weights) == N_RANKS and found.calibration.trust.spread is not None
    assert read_calibration(LabelBank.open(folder / "labels").facts) == found.calibration
    again = calibrate(str(folder), labels=folder / "labels", data=two_sources)
    assert not again.calibration.trust.weights and "now the probability alone decides" in again.notes[0]
    damaged = json.loads((folder / "labels" / "bank.json").read_text()) | {"calibration": {"trust": "?"}}
    (folder / "labels" / "bank.json").write_text(json.dumps(damaged))
    assert calibrate(str(folder), labels=folder / "labels", data=two_sources).notes == ()
    with pytest.raises(LinnaeaError, match="trained without some of the data's sources"):
        calibrate(str(folder), labels=folder / "labels", data=two_sources, rehearsals=[tmp_path / "whole"])
