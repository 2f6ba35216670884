"""An answer that names no taxon says which of three it is: nothing there, something else, or not sure enough."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import linnaea
from linnaea.data.shards import make_taxa_table
from linnaea.model.encoder import Encoder
from linnaea.predict import predictor
from linnaea.predict.agreement import agree
from linnaea.predict.calibration import Calibration
from linnaea.predict.classifier import iter_scored
from linnaea.predict.inputs import Input, bytes_input
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.labels import LabelBank
from linnaea.predict.outputs.rows import rows_of
from linnaea.predict.predictor import Asked, Predictor
from linnaea.predict.restrict import Among, restrict
from linnaea.predict.surroundings import describe, find_elsewhere, find_unrelated, look_around
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

SCALE, WIDTH = 60.0, 24


class Vectors(Encoder):
    """A model of which the vectors of photographs are given."""

    name, facts, fingerprint, width, logit_scale = "vectors", {}, "", WIDTH, SCALE

    def encode_pixels(self, pixels_BCHW: Any, *, unit: bool = True) -> Any:
        raise AssertionError

    def encode_captions(self, captions: Any, on_progress: Any) -> Any:
        raise AssertionError


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_bank() -> LabelBank:
    """Twelve birds in three families and twelve mammals in three others, two species a genus."""
    taxa = [
        Taxon.of(kingdom="Animalia", phylum="Chordata", family=f"F{i // 4}", genus=f"G{i // 2}", species=f"s{i}",
                 **{"class": "Aves" if i < 12 else "Mammalia"})
        for i in range(24)
    ]  # fmt: skip
    vectors = unit(np.random.default_rng(5).normal(size=(24, WIDTH)))
    return LabelBank(make_taxa_table(taxa), vectors, {})


@pytest.fixture(scope="module", params=["float32", "8 bits"])
def bank(request: pytest.FixtureRequest) -> Iterator[LabelBank]:
    """The bank, calibrated with photographs that lie at its labels; in 8 bits it is compared as a very large one is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "ROUNDED_FROM", 1)
        found = calibrate_bank()
        vectors = Int8Rows.of(found.vectors) if request.param == "8 bits" else found.vectors
        yield LabelBank(found.taxa, vectors, found.facts)


def calibrate_bank() -> LabelBank:
    plain = make_bank()
    (block,) = iter_scored(plain.vectors, plain, SCALE)
    known = np.sort(block.energy_B)
    calibration = Calibration(evidence=tuple(map(float, known)), least_evidence=float(known[0]) - 0.02)
    return LabelBank(plain.taxa, plain.vectors, {"calibration": calibration.to_json()})


def ask(bank: LabelBank, among: Among = Among(), **asked: Any) -> Predictor:  # noqa: B008
    kept = restrict(bank, among, lambda line: None)
    return Predictor(model=Vectors(), bank=kept, asked=Asked(rank=None, **asked), around=look_around(bank, kept, among))


def answer_one(predictor: Predictor, vector: np.ndarray) -> Any:
    (answer,) = predictor.answer_vectors([bytes_input("a.jpg", b"")], [unit(vector)])
    return answer


def test_a_mammal_is_not_one_of_the_birds(bank: LabelBank) -> None:
    mammal = bank.vectors[20]
    assert answer_one(ask(bank), mammal).lineage["class"] == "Mammalia"
    answer = answer_one(ask(bank, Among(within=("class:Aves",))), mammal)
    assert (answer.status, answer.abstention) == ("abstained", "not among the labels")
    assert answer.reason.startswith("an organism, but not one of the 12 birds (Aves): species G10 s20 is likelier")
    excluded = answer_one(ask(bank, Among(exclude=("Mammalia",))), mammal)
    assert "not one of the 12 labels that are not excluded" in excluded.reason


def test_a_bird_among_birds_has_its_answer(bank: LabelBank) -> None:
    answer = answer_one(ask(bank, Among(within=("Aves",))), bank.vectors[3])
    assert (answer.status, answer.lineage["species"]) == ("ok", "G1 s3")
    assert answer.score == answer.guesses[0].score > 0.9


def test_nothing_is_nothing_with_and_without_a_clade(bank: LabelBank) -> None:
    nothing = -np.asarray(bank.vectors).sum(axis=0)
    for among in (Among(), Among(within=("Aves",)), Among(species_list=("G0 s0",))):
        answer = answer_one(ask(bank, among), nothing)
        assert answer.abstention == "no organism"
        assert answer.reason.startswith("no organism recognised")
        assert answer.evidence == 0


def test_evidence_does_not_depend_on_the_clade(bank: LabelBank) -> None:
    seen = [answer_one(ask(bank, among), bank.vectors[3] + 0.4 * bank.vectors[9]).evidence
            for among in (Among(), Among(within=("Aves",)), Among(exclude=("family:F2",)))]  # fmt: skip
    assert seen[0] == pytest.approx(seen[1]) == pytest.approx(seen[2])


def test_a_listed_species_relatives_are_not_elsewhere(bank: LabelBank) -> None:
    """A list says what occurs; a photograph that looks more like a relative may still show a listed species."""
    relative, stranger = bank.vectors[1], bank.vectors[20]
    listed = Among(species_list=("G0 s0", "G5 s10"))
    assert answer_one(ask(bank, listed), relative).status == "ok"
    answer = answer_one(ask(bank, listed), stranger)
    assert answer.abstention == "not among the labels"
    assert "not one of the 2 labels of the species list" in answer.reason


def ask_list(bank: LabelBank, rows: list[int], **changed: list[str]) -> Predictor:
    """Ask a list of names of one's own: rows of the bank without a calibration, with columns changed."""
    taxa = bank.taxa[rows].with_columns(*(pl.Series(name, values) for name, values in changed.items()))
    listed = LabelBank(taxa, bank.vectors[rows], {"text_type": "taxon_com"})
    around = look_around(listed, listed, Among(), bank)
    return Predictor(model=Vectors(), bank=listed, asked=Asked(rank=None), around=around, own=bank)


def test_a_list_of_names_abstains_as_the_labels_of_the_model_do(bank: LabelBank) -> None:
    asked = ask_list(bank, [0, 10])
    assert answer_one(asked, bank.vectors[10]).lineage["species"] == "G5 s10"
    assert answer_one(asked, bank.vectors[1]).status == "ok", "a relative may be a listed species"
    stranger = answer_one(asked, bank.vectors[20])
    assert (stranger.status, stranger.abstention) == ("abstained", "not among the labels")
    assert stranger.reason.startswith("an organism, but not one of the 2 labels: species G10 s20 is likelier")
    nothing = answer_one(asked, -np.asarray(bank.vectors).sum(axis=0))
    assert (nothing.abstention, nothing.evidence) == ("no organism", 0)


def test_a_listed_name_that_the_model_lacks_competes_with_its_labels(bank: LabelBank) -> None:
    """A family that the model has no label of must not lose its photographs to the labels that look most like it."""
    without = LabelBank(bank.taxa[:20], bank.vectors[:20], bank.facts)
    listed = LabelBank(bank.taxa[20:], bank.vectors[20:], {})
    around = look_around(listed, listed, Among(), without)
    asked = Predictor(model=Vectors(), bank=listed, asked=Asked(rank=None), around=around)
    assert answer_one(asked, bank.vectors[20]).lineage["species"] == "G10 s20"
    assert answer_one(asked, bank.vectors[3]).abstention == "not among the labels"


def test_another_classification_of_a_listed_species_is_no_reason_to_abstain(bank: LabelBank) -> None:
    other = ask_list(bank, [0, 10], family=["Elsidae", "Elsidae"], kingdom=["Metazoa", "Metazoa"])
    assert answer_one(other, bank.vectors[10]).lineage["family"] == "Elsidae"


def test_words_without_a_lineage_always_answer(bank: LabelBank) -> None:
    words = ask_list(bank, [0, 10], kingdom=["", ""])
    assert words.around is None
    assert answer_one(words, bank.vectors[20]).abstention in ("", "not sure enough")


def test_a_listed_class_keeps_what_is_below_it() -> None:
    taxa = make_bank().taxa
    aves = taxa[:1].with_columns(pl.lit("").alias(label) for label in ("order", "family", "genus", "species"))
    assert find_unrelated(taxa, aves).tolist() == [False] * 12 + [True] * 12


def test_doubt_names_the_taxon_that_comes_nearest(bank: LabelBank) -> None:
    flat = LabelBank(bank.taxa.with_columns(kingdom=bank.taxa["class"]), bank.vectors, {})
    answer = answer_one(ask(flat), bank.vectors[3] + bank.vectors[20])
    assert answer.abstention == "not sure enough"
    assert answer.reason.startswith("not sure enough: no taxon reaches 90%; the surest is kingdom ")


def test_a_row_without_an_answer_has_no_score(bank: LabelBank) -> None:
    for vector in (-np.asarray(bank.vectors).sum(axis=0), bank.vectors[20]):
        answer = answer_one(ask(bank, Among(within=("Aves",))), vector)
        assert answer.score is None
        (row,) = rows_of(answer)
        assert row["score"] is None
        assert row["reason"] == answer.reason


def test_in_an_event_what_is_something_else_keeps_its_own_answer(bank: LabelBank) -> None:
    predictor = ask(bank, Among(within=("Aves",)))
    inputs: list[Input] = [replace(bytes_input(f"{n}.jpg", b""), event="one") for n in range(3)]
    answers = list(agree(predictor, inputs, [bank.vectors[3], bank.vectors[20], unit(bank.vectors[3] + 0.01)]))
    assert [answer.abstention for answer in answers] == ["", "not among the labels", ""]
    assert answers[0].guesses == answers[2].guesses


def test_each_rank_may_have_its_own_confidence() -> None:
    bank = make_bank()
    between = bank.vectors[2] + 0.985 * bank.vectors[3]  # two species of one genus
    (judged,) = ask(bank).judge([bytes_input("a", b"")], [unit(between)])
    path = {guess.rank: guess.score for guess in ask(bank).paths(judged)[0]}
    species, genus = path[Rank.SPECIES], path[Rank.GENUS]
    assert species < 0.9 < genus

    def rank_at(at_species: float, at_genus: float) -> Rank:
        confidence = (0.9,) * 5 + (at_genus, at_species)
        return answer_one(ask(bank, confidence=confidence), between).guesses[0].rank

    assert rank_at(species + 0.01, 0.9) is Rank.GENUS
    assert rank_at(species - 0.01, 0.9) is Rank.SPECIES
    assert rank_at(species - 0.01, 1.0) is Rank.SPECIES, "each answer has to reach the confidence of its own rank"


def test_what_is_elsewhere_is_found_by_lineage() -> None:
    taxa = make_bank().taxa
    kept = taxa[:2]
    assert find_elsewhere(taxa, kept, Rank.SPECIES).tolist() == [False] * 2 + [True] * 22
    assert find_elsewhere(taxa, kept, Rank.FAMILY).tolist() == [False] * 4 + [True] * 20


@pytest.mark.parametrize(
    ("among", "words"),
    [
        (Among(within=("order:lepidoptera",)), "24 butterflies and moths (Lepidoptera)"),
        (Among(within=("Nymphalidae",)), "24 labels within Nymphalidae"),
        (Among(within=("Aves", "Mammalia")), "24 labels within Aves and Mammalia"),
    ],
)
def test_the_labels_that_may_answer_have_a_name(among: Among, words: str) -> None:
    assert describe(make_bank(), among) == words


def test_a_jaguar_is_none_of_nanos_birds(shared: Path) -> None:
    folder = shared / "species-images" / "big-cats" / "Jaguar"
    jaguars = sorted(folder.glob("*.jpg"))[:3]
    if not jaguars:
        pytest.skip("no photographs of jaguars")
    answers = linnaea.open("nano").predict(jaguars, rank="auto", within="Aves")
    assert [answer.abstention for answer in answers] == ["not among the labels"] * 3
    assert all("not one of the 316 birds" in answer.reason for answer in answers)
