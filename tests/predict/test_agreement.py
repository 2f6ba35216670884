"""The photographs of one event agree: evidence is added, and copies say together what one of them says."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from linnaea.predict.agreement import LEAST_PROBABILITY, answer_events, share_of_evidence
from linnaea.predict.calibration import KEY, Calibration
from linnaea.predict.inputs import Input, list_inputs
from linnaea.predict.outputs.journal import Journal
from linnaea.predict.outputs.rows import rows_of
from linnaea.predict.predictor import Asked, Predictor
from linnaea.predict.session import open_model
from linnaea.predict.spread import fit_spread
from linnaea.predict.trust import SIGNS, Trust
from linnaea.taxonomy.ranks import N_RANKS, Rank


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Predictor:
    model = open_model(trained / "model", device="cpu")
    return model.predictor(Asked(rank=Rank.SPECIES, top_k=3), batch_size=4)


@pytest.fixture
def photos(tmp_path: Path) -> list[Input]:
    """Five photographs of noise and one that is broken."""
    rng = np.random.default_rng(3)
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (40, 40, 3), np.uint8))
    (tmp_path / "5.png").write_bytes(b"no picture")
    return list_inputs([str(tmp_path)])


def together(inputs: list[Input]) -> list[Input]:
    return [replace(one, event="one") for one in inputs]


def test_the_photographs_of_an_event_have_one_answer(predictor: Predictor, photos: list[Input]) -> None:
    alone = list(predictor.answer(photos))
    assert len({answer.guesses for answer in alone[:5]}) == 5
    agreed = list(answer_events(predictor, together(photos)))
    assert [answer.input.name for answer in agreed] == [one.name for one in photos]
    assert len({answer.guesses for answer in agreed[:5]}) == 1
    assert agreed[5].status == "failed"
    assert rows_of(agreed[0])[0]["event"] == "one"


def test_the_answer_is_that_of_the_formula(predictor: Predictor, photos: list[Input]) -> None:
    """The sum of logarithms over the design effect, written anew."""
    (judged,) = predictor.judge(photos[:3], [answer.vector for answer in predictor.answer(photos[:3])])
    vectors = judged.image_BE.astype(np.float64)
    pairs = [vectors[i] @ vectors[j] for i in range(3) for j in range(3) if i != j]
    effect = 1 + 2 * np.mean(pairs)
    log = np.log(np.maximum(judged.probability_BK, LEAST_PROBABILITY)).astype(np.float64).sum(axis=0) / effect
    expected = np.exp(log - log.max())
    expected /= expected.sum()
    (first, *_) = answer_events(predictor, together(photos[:3]))
    assert first.guesses[0].score == pytest.approx(expected.max(), rel=1e-4)


def test_the_photographs_of_an_event_are_trusted_alike(predictor: Predictor, photos: list[Input]) -> None:
    """Each lies at its own distance from the label; what counts is the mean."""
    images, labels = np.random.default_rng(0).normal(size=(2, 99, predictor.model.width))
    spread = fit_spread(images, labels)
    of_distance = (3.0, *(0.0,) * len(SIGNS), -1.0)
    facts = {KEY: Calibration(trust=Trust((of_distance,) * N_RANKS, spread)).to_json()}
    trusting = replace(predictor, asked=Asked(rank=None, confidence=1e-9), bank=replace(predictor.bank, facts=facts))
    assert len({answer.score for answer in trusting.answer(photos[:4])}) == 4
    agreed = list(answer_events(trusting, together(photos[:4])))
    ((guess,),) = {answer.guesses for answer in agreed}
    row = trusting.bank.taxa_list.index(guess.taxon)
    vectors = np.stack([answer.vector for answer in agreed if answer.vector is not None])
    distances = spread.distances(vectors, trusting.bank.vectors[[row] * 4].astype(np.float32))
    assert guess.score == pytest.approx(1 / (1 + np.exp(distances.mean() - 3)), rel=1e-5)


def test_copies_say_what_one_of_them_says(predictor: Predictor, photos: list[Input]) -> None:
    copies = [replace(photos[0], name=f"copy {number}", event="one") for number in range(4)]
    (one,) = predictor.answer(photos[:1])
    for answer in answer_events(predictor, copies):
        assert [guess.taxon for guess in answer.guesses] == [guess.taxon for guess in one.guesses]
        assert answer.guesses[0].score == pytest.approx(one.guesses[0].score, rel=1e-3)


def test_without_events_nothing_changes(predictor: Predictor, photos: list[Input]) -> None:
    alone, apart = list(predictor.answer(photos)), list(answer_events(predictor, photos))
    assert [rows_of(answer) for answer in alone] == [rows_of(answer) for answer in apart]
    different = [replace(one, event=one.name) for one in photos]
    assert [answer.guesses for answer in answer_events(predictor, different)] == [answer.guesses for answer in alone]


@pytest.mark.parametrize(
    ("vectors", "share"),
    [
        (np.eye(4), 1.0),
        (np.ones((4, 1)), 0.25),
        (np.array([[1.0, 0.0], [0.6, 0.8]]), 1 / 1.6),
        (np.array([[1.0, 0.0], [-1.0, 0.0]]), 1.0),
        (np.ones((1, 1)), 1.0),
    ],
)
def test_near_copies_do_not_count_twice(vectors: np.ndarray, share: float) -> None:
    assert share_of_evidence(vectors.astype(np.float32)) == pytest.approx(share)


def test_an_event_that_was_interrupted_is_answered_again(
    predictor: Predictor, photos: list[Input], tmp_path: Path
) -> None:
    """One that lacks a photograph as a whole, so that its answers agree; finished ones are not touched."""
    inputs = [replace(one, event=event) for one, event in zip(photos, "aabbba", strict=True)]
    whole, torn = Journal(tmp_path / "whole.csv", {}), Journal(tmp_path / "torn.csv", {})
    whole.fill(predictor, inputs, lambda done, total: None)
    names = [one.name for one in inputs]
    rows = list(whole.rows(names))
    for answer in answer_events(predictor, [inputs[0], inputs[1], inputs[5], inputs[2]]):
        torn.add(answer.input, rows_of(answer))
    torn.path.write_text("\n".join(torn.path.read_text().split("\n")[:-2]) + "\n")  # photograph 2 is lost
    again, seen = Journal(tmp_path / "torn.csv", {}), list[int]()
    assert len(again.done) == 3
    again.fill(predictor, inputs, lambda done, total: seen.append(done))
    assert seen[0] == 3, "the event of three is done"
    for row, wanted in zip(again.rows(names), rows, strict=True):  # batches differ, and with them the last bits
        assert row.pop("score") == pytest.approx(wanted.pop("score"), abs=2e-6)
        assert row == wanted
