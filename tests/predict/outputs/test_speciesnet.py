"""SpeciesNet's predictions, in format 20261015 and the one before it."""

import json
from pathlib import Path
from typing import Any

import pytest
from answered import FOX, HUMAN, MAMMAL, answer, draw, read, written

from linnaea.predict.detection_files import open_detections
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.files import HUMAN as PEOPLE
from linnaea.predict.outputs.speciesnet import ANIMAL, BLANK, UNKNOWN, VEHICLE, read_region
from linnaea.taxonomy.ranks import Rank

FIVE = (FOX, MAMMAL, HUMAN, FOX.at(Rank.FAMILY), FOX.at(Rank.GENUS))


@pytest.fixture
def card(tmp_path: Path) -> Detections:
    """An animal among people and doubt, a person, a car, nothing, a broken file."""
    for name in "abcd":
        draw(tmp_path / f"{name}.jpg")

    def box(category: str, conf: float) -> dict[str, Any]:
        return {"category": category, "conf": conf, "bbox": [0.1, 0.1, 0.5, 0.5]}

    images = [
        {"file": "a.jpg", "detections": [box("1", 0.7), box("2", 0.9), box("1", 0.05)]},
        {"file": "b.jpg", "detections": [box("2", 0.9)]},
        {"file": "c.jpg", "detections": [box("3", 0.8)]},
        {"file": "d.jpg", "detections": []},
        {"file": "e.jpg", "failure": "Failure image access", "detections": None},
    ]
    return read(tmp_path / "md.json", {"images": images})


def test_the_answer_stands_in_each_detection(card: Detections) -> None:
    made = json.loads(written("speciesnet", answer(card.inputs(), *FIVE), card))
    assert made["info"] == {"format_version": "20261015"}
    a, b, c, d, e = made["predictions"]
    assert not any("prediction" in one or "classifications" in one for one in made["predictions"])
    assert all(one["model_version"].startswith("linnaea ") for one in made["predictions"])
    person, fox, doubtful = a["detections"]
    assert [one["conf"] for one in a["detections"]] == [0.9, 0.7, 0.05], "the surest first"
    assert (person["category"], person["label"]) == ("2", "human")
    assert person["processed_classification"] == {"class": PEOPLE, "score": 0.9, "source": "detector"}
    answer_class, score = fox["processed_classification"]["class"], fox["processed_classification"]["score"]
    assert answer_class.endswith(";mammalia;carnivora;canidae;vulpes;vulpes;red fox")
    assert score == 0.75
    assert len(fox["raw_classifications"]["classes"]) == len(fox["raw_classifications"]["scores"]) == 2
    assert fox["raw_classifications"]["classes"][0] == answer_class
    assert fox["raw_classifications"]["scores"] == sorted(fox["raw_classifications"]["scores"], reverse=True)
    assert doubtful == {"category": "1", "label": "animal", "conf": 0.05, "bbox": [0.1, 0.1, 0.5, 0.5]}
    assert b["detections"][0]["processed_classification"]["class"] == PEOPLE
    assert c["detections"][0]["processed_classification"] == {"class": VEHICLE, "score": 0.8, "source": "detector"}
    assert d["detections"] == []
    assert (e["failures"], e["reason"]) == (["CLASSIFIER"], "Failure image access")
    assert "detections" not in e


def test_the_format_before_has_one_answer_per_photograph(card: Detections) -> None:
    made = json.loads(written("speciesnet-legacy", answer(card.inputs(), *FIVE), card))
    assert "info" not in made
    a, b, c, d, e = made["predictions"]
    assert a["prediction"].endswith(";vulpes;red fox"), "the animal speaks for its photograph"
    assert (a["prediction_score"], a["prediction_source"]) == (0.75, "classifier")
    assert len(a["classifications"]["classes"]) == 5
    assert all("processed_classification" not in one for one in a["detections"])
    assert [one["prediction"] for one in (b, c, d)] == [PEOPLE, VEHICLE, BLANK]
    assert e["failures"] == ["CLASSIFIER"]
    assert "prediction" not in e


def test_an_animal_that_is_not_named_is_an_animal(card: Detections) -> None:
    made = json.loads(written("speciesnet", answer(card.inputs()), card))
    animal = made["predictions"][0]["detections"][1]
    assert animal["processed_classification"] == {"class": ANIMAL, "score": 0.7, "source": "detector"}
    assert "raw_classifications" not in animal
    assert json.loads(written("speciesnet-legacy", answer(card.inputs()), card))["predictions"][0]["detections"]


def test_a_photograph_without_a_detector_is_seen_as_a_whole(tmp_path: Path) -> None:
    inputs = list_inputs([str(draw(tmp_path / "a.jpg"))])
    (whole,) = json.loads(written("speciesnet", answer(inputs, FOX)))["predictions"][0]["detections"]
    assert (whole["category"], whole["label"], whole["conf"]) == ("0", "whole_image_classification", 1.0)
    assert whole["processed_classification"]["class"].endswith(";red fox")
    (legacy,) = json.loads(written("speciesnet-legacy", answer(inputs, FOX)))["predictions"]
    assert legacy["detections"] == []
    assert legacy["prediction"].endswith(";red fox")
    (nothing,) = json.loads(written("speciesnet", answer(inputs)))["predictions"][0]["detections"]
    assert nothing["processed_classification"]["class"] == UNKNOWN


def test_every_class_has_seven_parts_and_a_last_name(card: Detections) -> None:
    """SpeciesNet's and MegaDetector's readers insist on both, and on lower case."""
    made = json.loads(written("speciesnet", answer(card.inputs(), *FIVE[::-1]), card))
    detections = [detection for one in made["predictions"] for detection in one.get("detections", [])]
    classes = [name for one in detections for name in one.get("raw_classifications", {}).get("classes", [])]
    classes += [one["processed_classification"]["class"] for one in detections if "processed_classification" in one]
    assert classes
    for name in classes:
        assert len(name.split(";")) == 7
        assert name.split(";")[-1]
        assert name == name.lower()


def test_instances_keep_their_place_in_speciesnets_codes(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    stated = {"filepath": "a.jpg", "country": "usa", "admin1_region": "US-CA", "latitude": 37.0, "longitude": -122.0}
    instances = read(tmp_path / "instances.json", {"instances": [stated]})
    (made,) = json.loads(written("speciesnet", answer(instances.inputs(), FOX), instances))["predictions"]
    assert (made["filepath"], made["country"], made["admin1_region"]) == ("a.jpg", "USA", "CA")
    assert (made["latitude"], made["longitude"]) == (37.0, -122.0)


@pytest.mark.parametrize(
    ("stated", "codes"),
    [
        ({"country": "GBR"}, {"country": "GBR"}),
        ({"country": "gbr", "admin1_region": None}, {"country": "GBR"}),
        ({"country": "USA", "admin1_region": "ny"}, {"country": "USA", "admin1_region": "NY"}),
        ({"country": "DE", "admin1_region": "BE"}, {}),
        ({"country": "Germany"}, {}),
        ({}, {}),
    ],
)
def test_countries_are_three_capital_letters_and_regions_two(stated: dict[str, Any], codes: dict[str, str]) -> None:
    assert read_region(stated) == codes


def test_what_is_written_can_be_read_again(card: Detections, tmp_path: Path) -> None:
    for form in ("speciesnet", "speciesnet-legacy"):
        (tmp_path / "sn.json").write_text(written(form, answer(card.inputs(), FOX), card))
        again = open_detections(tmp_path / "sn.json").inputs(0.2)
        assert [one.category for one in again] == ["human", "animal", "human", "vehicle", "", ""]
