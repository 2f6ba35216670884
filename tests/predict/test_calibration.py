"""Calibration keeps the tree whole, finds what was done to the logits, and says when there is nothing to see."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict.calibration import (
    UNKNOWN,
    Calibration,
    calibrate_probabilities,
    find_groups,
    read_calibration,
    write_calibration,
)
from linnaea.predict.calibration_fit import NONE_COUNTS, UNTRAINED_SHARE, _join, _leave_out, fit_calibration
from linnaea.predict.classifier import Guess, Scored, iter_scored, sum_to_all_ranks
from linnaea.predict.labels import TRAINED, LabelBank
from linnaea.predict.predictor import NOTHING, Judged, decide, decide_or_explain
from linnaea.predict.restrict import keep_clades
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

WIDTH = 24


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def decide_calibrated(block: Scored, bank: LabelBank, calibration: Calibration, confidence: float) -> list[Any]:
    """Return each image's taxon, or which abstention it is and its reason."""
    weighed, p = calibration.weigh(block), calibrate_probabilities(block.probability_BK, bank, calibration)
    judged = Judged(
        inputs=[], image_BE=block.image_BE, probability_BK=p, without_prior_BK=p,
        recognised_B=calibration.recognises(weighed), evidence_B=calibration.evidence_of(weighed),
        elsewhere=("",) * len(p),
    )  # fmt: skip
    chosen = decide_or_explain(sum_to_all_ranks(p, bank), bank, confidence, judged)
    return [guesses[0] if guesses else (abstention, reason) for guesses, abstention, reason in chosen]


def make_bank(n_taxa: int = 40, seed: int = 0) -> LabelBank:
    taxa = [
        Taxon.of(
            kingdom=f"K{i % 2}", order=f"O{i % 4}", family=f"F{i % 8}", genus=f"G{i % 20}", species=f"s{i // 20}x{i}"
        )
        for i in range(n_taxa)
    ]
    table = make_taxa_table(taxa)
    return LabelBank(table, unit(np.random.default_rng(seed).normal(size=(n_taxa, WIDTH))), {})


def photograph(bank: LabelBank, rows: np.ndarray, rng: np.random.Generator, side: np.ndarray | float = 0) -> np.ndarray:
    """Images near the labels of ``rows``, drawn to one side."""
    return unit(bank.vectors[rows] + rng.normal(scale=0.08, size=(len(rows), WIDTH)) + side)


def weigh(calibration: Calibration, images: np.ndarray, bank: LabelBank, scale: float) -> np.ndarray:
    return np.concatenate([calibration.weigh(block) for block in iter_scored(images, bank, scale)])


def draw(bank: LabelBank, n: int, scale: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Images whose truths are drawn from the model's own softmax at ``scale``: there it is calibrated by definition."""
    rng = np.random.default_rng(seed)
    images = unit(bank.vectors[rng.integers(len(bank), size=n)] + rng.normal(scale=0.3, size=(n, WIDTH)))
    probability = np.concatenate([b.probability_BK for b in iter_scored(images, bank, scale)]).astype(float)
    rows = np.array([rng.choice(len(bank), p=p / p.sum()) for p in probability])
    return images, rows


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.lists(st.floats(0.05, 9), min_size=7, max_size=7))
def test_calibrated_probabilities_still_add_up(seed: int, sharpness: list[float]) -> None:
    """Naive: shares within each parent to a power, made to add up again, multiplied down the lineage."""
    bank = make_bank(30, seed)
    p = np.random.default_rng(seed).dirichlet(np.full(len(bank), 0.2), size=3).astype(np.float32)
    calibrated = calibrate_probabilities(p, bank, Calibration(sharpness=tuple(sharpness)))
    lineages = [taxon.lineage for taxon in bank.taxa_list]
    for image in range(3):
        q: dict[tuple[str, ...], float] = {(): 1.0}
        for depth in range(1, 8):
            mass: dict[tuple[str, ...], float] = {}
            for value, lineage in zip(p[image], lineages, strict=True):
                mass[lineage[:depth]] = mass.get(lineage[:depth], 0.0) + float(value)
            for name in mass:
                siblings = [other for other in mass if other[:-1] == name[:-1]]
                largest = max([mass[other] for other in siblings] + [1e-38])
                powers = {o: (max(mass[o], 1e-38) / largest) ** sharpness[depth - 1] for o in siblings}
                q[name] = q[name[:-1]] * powers[name] / sum(powers.values())
        np.testing.assert_allclose(calibrated[image], [q[lineage] for lineage in lineages], rtol=2e-3, atol=1e-6)
    for sums in sum_to_all_ranks(calibrated, bank).values():
        np.testing.assert_allclose(sums.sum(axis=1), 1, rtol=1e-4)


def test_no_calibration_changes_nothing() -> None:
    bank = make_bank()
    p = np.random.default_rng(0).dirichlet(np.ones(len(bank)), size=4).astype(np.float32)
    assert calibrate_probabilities(p, bank, Calibration()) is p
    again = calibrate_probabilities(p, bank, Calibration(sharpness=(1.0,) * 6 + (1.0 + 1e-7,)))
    np.testing.assert_allclose(again, p, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("too_sure", [0.5, 3.0])
def test_the_temperature_that_was_put_in_is_found(too_sure: float) -> None:
    bank = make_bank()
    images, rows = draw(bank, 4000, 8.0)
    learnt = fit_calibration(images, find_groups([bank.taxon(r) for r in rows.tolist()], bank), bank, 8.0 * too_sure)
    assert learnt.temperature == pytest.approx(too_sure, rel=0.08)
    assert learnt.sharpness == pytest.approx((1.0,) * 7, abs=0.35)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_what_is_asserted_is_right_as_often_as_asked(confidence: float) -> None:
    """Fitted on some, measured on others, of a model three times too sure; without calibration the promise fails."""
    bank = make_bank()
    images, rows = draw(bank, 3000, 8.0)
    groups = find_groups([bank.taxon(r) for r in rows.tolist()], bank)
    learnt = fit_calibration(images[:1500], groups[:1500], bank, 24.0)
    shares = []
    for calibration in (learnt, Calibration()):
        right = []
        start = 1500
        for block in iter_scored(images[1500:], bank, 24.0 / calibration.temperature):
            for answer in decide_calibrated(block, bank, calibration, confidence):
                if isinstance(answer, Guess):
                    truth = bank.taxon(int(rows[start])).lineage
                    right.append(all(a in ("", b) for a, b in zip(answer.taxon.lineage, truth, strict=True)))
                start += 1
        shares.append((float(np.mean(right)), 1.96 * (confidence * (1 - confidence) / len(right)) ** 0.5))
    assert shares[0][0] + shares[0][1] >= confidence
    assert shares[1][0] + shares[1][1] < confidence


def test_a_species_without_label_still_has_its_genus() -> None:
    bank = make_bank()
    own = bank.taxon(3)
    stranger = Taxon((*own.lineage[:6], "incognita"))
    nowhere = Taxon.of(kingdom="Fungi", genus="Boletus", species="edulis")
    groups = find_groups([own, stranger, nowhere, own.at(Rank.GENUS)], bank)
    assert bank.groups.starts[Rank.SPECIES][groups[0, Rank.SPECIES]] == 3
    assert groups[1].tolist() == [*groups[0, :6].tolist(), UNKNOWN]
    assert groups[2].tolist() == [UNKNOWN] * 7
    assert groups[3].tolist() == groups[1].tolist()


def test_each_class_of_a_species_has_its_own_group() -> None:
    lineage = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "plexippus")
    adult, larva = (Taxon(lineage, common_name=f"Danaus plexippus {stage}") for stage in ("adult", "larva"))
    taxa = make_taxa_table([adult, larva])
    bank = LabelBank(taxa, np.eye(2, dtype=np.float32), {})
    groups = find_groups([adult, larva], bank)
    assert groups[:, Rank.SPECIES].tolist() == [0, 1]
    assert groups[:, Rank.GENUS].tolist() == [0, 0]


def test_a_species_beside_its_classes_has_its_own_group() -> None:
    lineage = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "plexippus")
    names = ("Danaus plexippus adult", "Danaus plexippus larva", "Monarch")
    taxa = make_taxa_table([Taxon(lineage, common_name=name) for name in names])
    assert taxa["common_name"].to_list() == list(names), "the species comes after its classes"
    bank = LabelBank(taxa, np.eye(3, dtype=np.float32), {})
    truth = [Taxon(lineage), Taxon(lineage, common_name="Monarch"), Taxon(lineage, common_name=names[1])]
    assert find_groups(truth, bank)[:, Rank.SPECIES].tolist() == [2, 2, 1]


def test_pictures_of_nothing_are_told_apart() -> None:
    bank = make_bank()
    rng = np.random.default_rng(5)
    rows = np.arange(400) % len(bank)
    images = photograph(bank, rows, rng)
    nothing = unit(rng.normal(size=(60, WIDTH)))
    groups = find_groups([bank.taxon(r) for r in rows.tolist()], bank)
    learnt = fit_calibration(images, groups, bank, 60.0, nothing_ME=nothing[:30])
    weighed = [weigh(learnt, v, bank, 60.0 / learnt.temperature) for v in (images, nothing[30:])]
    assert learnt.recognises(weighed[0]).mean() >= 0.95
    assert learnt.recognises(weighed[1]).mean() <= 0.2
    evidence = learnt.evidence_of(np.sort(weighed[0]))
    assert (np.diff(evidence) >= 0).all()
    assert 0 <= evidence[0] <= evidence[-1] <= 1


def test_a_direction_parts_what_energy_cannot() -> None:
    """Pictures of nothing that lie as near to the labels as organisms do, but on their own side."""
    bank = make_bank()
    rng = np.random.default_rng(6)
    side = np.zeros(WIDTH)
    side[0] = 0.6
    rows = np.arange(400) % len(bank)
    images = photograph(bank, rows, rng, side)
    nothing = photograph(bank, rng.integers(len(bank), size=200), rng, -side)
    groups = find_groups([bank.taxon(r) for r in rows.tolist()], bank)
    learnt = fit_calibration(images, groups, bank, 60.0, nothing_ME=nothing[:100])
    of_energy = replace(learnt, organism=())
    kept = {}
    for name, one in (("learnt", learnt), ("energy", of_energy)):
        known, other = (weigh(one, v, bank, 60.0) for v in (images, nothing[100:]))
        kept[name] = float((other >= np.quantile(known, 0.05)).mean())
    assert kept["learnt"] <= 0.1
    assert kept["energy"] >= 0.5
    again = Calibration.of_json(json.loads(json.dumps(learnt.to_json())))
    assert again == learnt
    (block,) = iter_scored(images[:1, 1:].copy(), LabelBank(bank.taxa, bank.vectors[:, 1:], {}), 60.0)
    with pytest.raises(LinnaeaError, match="another width"):
        learnt.weigh(block)


def test_a_source_that_the_weights_have_not_seen_is_recognised() -> None:
    """Each source is set apart by its camera; one camera's photographs lie nearer to pictures of nothing."""
    bank = make_bank()
    rng = np.random.default_rng(8)
    rows = np.arange(600) % len(bank)
    cameras = np.zeros((3, WIDTH))
    cameras[0, 0], cameras[1, 1], cameras[2, 2] = 0.6, 0.6, 0.6
    cameras[2, 3] = -0.25
    camera_N = np.repeat([0, 1, 2], 200)
    images = np.concatenate([photograph(bank, rows[camera_N == c], rng, cameras[c]) for c in range(3)])
    nothing = photograph(bank, rng.integers(len(bank), size=300), rng, -3.0 * np.eye(WIDTH)[3] / 4)
    groups = find_groups([bank.taxon(r) for r in rows.tolist()], bank)
    seen = camera_N != 2
    lost = {}
    for name, sources in (("one", ()), ("two", [f"camera {c}" for c in camera_N[seen]])):
        learnt = fit_calibration(images[seen], groups[seen], bank, 60.0, nothing_ME=nothing[:150], sources=sources)
        weighed = [weigh(learnt, v, bank, 60.0 / learnt.temperature) for v in (images[~seen], nothing[150:])]
        lost[name] = [1 - float(learnt.recognises(one).mean()) for one in weighed]
    assert lost["one"][0] >= 0.3, "otherwise this shows nothing"
    assert lost["two"][0] <= lost["one"][0] / 3
    assert lost["two"][1] >= 0.7, "of pictures of nothing"


def test_photographs_trained_on_show_what_organisms_look_like() -> None:
    """Organisms of a kind that the calibration's photographs lack lie on the side of nothing, until some are shown."""
    bank = make_bank()
    rng = np.random.default_rng(7)
    side = np.zeros(WIDTH)
    side[0] = 0.6
    rows = np.arange(400) % len(bank)
    images = photograph(bank, rows, rng, side)
    plants = photograph(bank, rows, rng, -side)
    nothing = unit(rng.normal(scale=0.3, size=(200, WIDTH)) - 1.5 * side)
    groups = find_groups([bank.taxon(r) for r in rows.tolist()], bank)
    recognised = []
    for more in (None, plants[:200]):
        learnt = fit_calibration(images, groups, bank, 60.0, nothing_ME=nothing[:100], organism_OE=more)
        weighed = [weigh(learnt, v, bank, 60.0 / learnt.temperature) for v in (plants[200:], nothing[100:])]
        recognised.append([float(learnt.recognises(one).mean()) for one in weighed])
    assert recognised[0][0] < 0.6
    assert recognised[1][0] > 0.9
    assert recognised[1][1] < 0.1


def with_untrained(bank: LabelBank, every: int) -> LabelBank:
    trained = np.arange(len(bank)) % every > 0
    return LabelBank(bank.taxa.with_columns(pl.Series(TRAINED, trained)), bank.vectors, bank.facts)


def test_labels_that_were_not_trained_on_hold_a_tenth_and_no_more() -> None:
    """The photographs all show trained species, as those do that calibrate: what names of others hold is borrowed."""
    bank = with_untrained(make_bank(60), 3)
    images, rows = draw(bank, 1500, 8.0)
    everybody = fit_calibration(images, find_groups([bank.taxon(r) for r in rows.tolist()], bank), bank, 8.0)
    assert everybody.untrained == pytest.approx(1, abs=0.1), "where photographs show them, nothing is taken from them"
    images, rows = images[bank.trained[rows]], rows[bank.trained[rows]]
    truth = [bank.taxon(r) for r in rows.tolist()]
    learnt = fit_calibration(images, find_groups(truth, bank), bank, 8.0)
    plain = replace(learnt, untrained=1.0, sharpness=(1.0,) * 7)
    held = []
    for calibration in (plain, replace(plain, untrained=learnt.untrained)):
        p = [calibrate_probabilities(b.probability_BK, bank, calibration)
             for b in iter_scored(images, bank, 8.0 / learnt.temperature)]  # fmt: skip
        held.append(float(np.concatenate(p)[:, ~bank.trained].sum(axis=1).mean()))
    assert held[0] > 1.5 * UNTRAINED_SHARE
    assert held[1] == pytest.approx(UNTRAINED_SHARE, abs=1e-4)
    alone = LabelBank(bank.taxa.filter(bank.trained), bank.vectors[bank.trained], {})
    among_trained = fit_calibration(images, find_groups(truth, alone), alone, 8.0)
    assert learnt.temperature == pytest.approx(among_trained.temperature)
    assert among_trained.untrained == 1
    assert Calibration.of_json(json.loads(json.dumps(learnt.to_json()))) == learnt


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(1e-6, 1))
def test_the_factor_leaves_odds_among_the_trained_alone(seed: int, factor: float) -> None:
    bank = with_untrained(make_bank(30, seed), 4)
    p = np.random.default_rng(seed).dirichlet(np.ones(len(bank)), size=3).astype(np.float32)
    q = calibrate_probabilities(p, bank, Calibration(untrained=factor))
    expected = p * np.where(bank.trained, 1, factor)
    np.testing.assert_allclose(q, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-9)
    for one in (True, False):  # all alike: there is nothing to be weighed against
        alike = LabelBank(bank.taxa.with_columns(pl.lit(one).alias(TRAINED)), bank.vectors, {})
        assert calibrate_probabilities(p, alike, Calibration(untrained=factor)) is p


def test_a_calibration_of_before_has_no_factor() -> None:
    facts = Calibration(temperature=2.0).to_json()
    del facts["untrained"]
    assert Calibration.of_json(facts) == Calibration(temperature=2.0)
    with pytest.raises(LinnaeaError, match="labels calibrate"):
        Calibration.of_json(facts | {"untrained": -1})


def test_strangers_make_it_less_sure() -> None:
    """Species are told apart by direction, genera hardly: with species left out, genus and above have to be doubted."""
    bank = make_bank(60)
    images, rows = draw(bank, 600, 12.0)
    truth = [bank.taxon(r) for r in rows.tolist()]
    plain, wary = (
        fit_calibration(images, find_groups(truth, bank), bank, 12.0, with_strangers=strangers)
        for strangers in (False, True)
    )
    assert wary.temperature == plain.temperature
    assert all(a <= b + 1e-9 for a, b in zip(wary.sharpness[:6], plain.sharpness[:6], strict=True))
    assert wary.sharpness[Rank.FAMILY] < 0.8 * plain.sharpness[Rank.FAMILY]


def test_where_no_answer_is_right_all_are_as_likely() -> None:
    """Siblings of which none is the truth make a rank less sure; without any others, sure of nothing."""
    values, n = np.array([0.7, 0.2, 0.1], np.float32), 100
    right, none = [(values, 0)] * n, [(values, UNKNOWN)] * n
    only, both, alone = (_join(parts) for parts in (none, right + none, right))
    assert only is not None
    assert both is not None
    assert alone is not None
    assert only.slope(1e-6)[0] == pytest.approx(0, abs=1e-3), "least where all shares are alike"
    assert only.slope(1.0)[0] > 0
    assert both.slope(1.0)[0] == pytest.approx(alone.slope(1.0)[0] + only.slope(1.0)[0])
    naive = np.log(values / values.max())
    assert only.target[0] == pytest.approx(naive.mean())
    assert only.slope(1.0)[0] == pytest.approx(n * NONE_COUNTS * (float(values @ naive) - naive.mean()), rel=1e-4)


def test_leaving_species_out_keeps_the_rest_in_place() -> None:
    bank = make_bank(40)
    truth = [bank.taxon(r) for r in range(40)]
    out = np.array([0, 1, 7, 39])
    small, groups = _leave_out(bank, find_groups(truth, bank), out)
    assert np.array_equal(groups, find_groups(truth, small))
    assert len(small) == 36


def test_an_abstention_says_which_it_is_and_why() -> None:
    bank = make_bank()
    p = np.full((2, len(bank)), 1 / len(bank), np.float32)
    block = Scored(
        p, np.array([0.1, 0.9], np.float32), np.array([0.1, 0.9], np.float32), np.zeros((2, WIDTH), np.float32)
    )
    calibration = Calibration(evidence=(0.5, 0.7, 0.9), least_evidence=0.5)
    nothing, unsure = decide_calibrated(block, bank, calibration, 0.9)
    assert nothing == ("no organism", f"{NOTHING}: less evidence than any known photograph shows")
    assert unsure == (
        "not sure enough", "not sure enough: no taxon reaches 90%; the surest is kingdom K0 (50.0%)"
    )  # fmt: skip
    known = decide(sum_to_all_ranks(p, bank), bank, 0.01, np.array([False, True]))
    assert known[0] is None
    assert known[1] is not None


def test_too_few_photographs_teach_nothing() -> None:
    bank = make_bank()
    images, rows = draw(bank, 20, 8.0)
    with pytest.raises(LinnaeaError, match="20 photographs of species among the labels; a calibration needs 50"):
        fit_calibration(images, find_groups([bank.taxon(r) for r in rows.tolist()], bank), bank, 8.0)


def test_it_lies_beside_the_model_or_in_the_bank(tmp_path: Path) -> None:
    calibration = Calibration(temperature=1.5, evidence=(0.1, 0.2), least_evidence=0.1, n_images=70, n_labels=9)
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "linnaea.json").write_text('{"recipe": "small"}')
    path = write_calibration(tmp_path / "run", calibration)
    facts = json.loads(path.read_text())
    assert facts["recipe"] == "small"
    assert read_calibration({}, facts) == calibration
    assert read_calibration({"calibration": Calibration().to_json()}, facts) == Calibration()
    assert read_calibration({}, {}) is None
    with pytest.raises(LinnaeaError, match="not a label bank or model folder"):
        write_calibration(tmp_path, calibration)
    with pytest.raises(LinnaeaError, match="labels calibrate"):
        read_calibration({"calibration": {"temperature": "warm"}})


def test_a_damaged_calibration_is_named_by_its_file(tmp_path: Path) -> None:
    bank = make_bank()
    replace(bank, facts={"calibration": {"temperature": "warm"}}).save(tmp_path / "labels")
    opened = LabelBank.open(tmp_path / "labels")
    for facts in (opened.facts, keep_clades(opened, ["K0"]).facts):
        with pytest.raises(LinnaeaError, match=re.escape(f"{tmp_path / 'labels' / 'bank.json'}: the calibration is")):
            read_calibration(facts)
