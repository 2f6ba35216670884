"""MegaDetector's JSON out: taxa are added, what the detector knew stays, and its rules for files are kept."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from answered import FOX, answer, draw, read, written

from linnaea.predict.inputs import list_inputs
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

INFO = {"format_version": "1.4", "detector": "md_v5a.0.0.pt", "detection_completion_time": "2026-05-26 19:11:27",
        "detector_metadata": {"typical_detection_threshold": 0.2, "megadetector_version": "v5a.0.0"}}  # fmt: skip
CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}


def box(category: str = "1", conf: float = 0.9, bbox: Any = (0.1, 0.1, 0.5, 0.5), **facts: Any) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": list(bbox), **facts}


def through(folder: Path, images: list[dict[str, Any]], *taxa: Taxon, **content: Any) -> dict[str, Any]:
    """A file with these images, answered with ``taxa``."""
    whole = {"info": INFO, "detection_categories": CATEGORIES, "images": images, **content}
    detections = read(folder / "md.json", whole)
    made: dict[str, Any] = json.loads(written("megadetector", answer(detections.inputs(), *taxa), detections))
    return made


def test_what_the_detector_knew_stays(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / f"cam 1/{name}.jpg")
    images = [
        {"file": "cam 1\\a.jpg", "datetime": "2024:05:01 12:00:00", "width": 60, "height": 40, "detections": [
            box(), box("2", 0.8), box("3", 0.7), box("1", 0.05), box("1", 0.6, (0.5, 0.5, 0, 0.1))]},
        {"file": "cam 1\\b.jpg", "detections": []},
        {"file": "cam 1\\broken.jpg", "failure": "Failure image access", "detections": None},
        {"file": "cam 1\\c.jpg", "detections": [box("2")]},
    ]  # fmt: skip
    made = through(tmp_path, images, FOX, custom={"project": "Harz"})
    assert {key: made["info"][key] for key in INFO if key != "format_version"} == {
        key: value for key, value in INFO.items() if key != "format_version"
    }
    assert made["info"]["format_version"] == "1.6"
    assert made["detection_categories"] == CATEGORIES
    assert made["custom"] == {"project": "Harz"}
    a, b, broken, c = made["images"]
    assert [one["file"] for one in made["images"]] == [one["file"] for one in images], "as the input writes them"
    assert {key: a[key] for key in ("datetime", "width", "height")} == {
        "datetime": "2024:05:01 12:00:00", "width": 60, "height": 40}  # fmt: skip
    named, person, vehicle, doubtful = a["detections"]
    assert named == box() | {"classifications": [["0", 0.75]]}
    assert (person, vehicle, doubtful) == (box("2", 0.8), box("3", 0.7), box("1", 0.05)), "the box without area is out"
    assert (b["detections"], c["detections"]) == ([], [box("2")])
    assert broken == {"file": "cam 1\\broken.jpg", "failure": "Failure image access", "detections": None}


def test_each_taxon_has_a_number_and_a_description_of_its_own(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    morus = [Taxon(("Animalia", "Chordata", "Aves", "Suliformes", "Sulidae", "Morus", "")),
             Taxon(("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Moraceae", "Morus", ""))]  # fmt: skip
    above = [FOX.at(rank) for rank in Rank]
    phyla = [Taxon(("Animalia", "Arthropoda", "", "", "", "", "")), Taxon(("Plantae", "Bryophyta", "", "", "", "", ""))]
    taxa = [*morus, *above, *phyla]
    made = through(tmp_path, [{"file": "a.jpg", "detections": [box()]}], *taxa)
    numbers = [number for number, _ in made["images"][0]["detections"][0]["classifications"]]
    assert len(set(numbers)) == len(taxa)
    descriptions = made["classification_category_descriptions"]
    assert descriptions.keys() == made["classification_categories"].keys() == set(numbers)
    assert len(set(descriptions.values())) == len(taxa)
    for number, taxon in zip(numbers, taxa, strict=True):
        words = descriptions[number].split(";")
        assert len(words) == 7
        assert (taxon.species or taxon.scientific_name).lower() in words[1:]
        assert made["classification_categories"][number] == taxon.scientific_name
    assert descriptions[numbers[0]].endswith(";aves;suliformes;sulidae;morus;;morus")


def test_categories_of_a_classifier_before_us_keep_their_numbers(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    detections = [box(classifications=[["4", 0.9]]), box(conf=0.05, classifications=[["4", 0.8]])]
    made = through(
        tmp_path, [{"file": "a.jpg", "detections": detections}], FOX,
        info=INFO | {"classifier": "deepfaune"}, classification_categories={"4": "fox"},
        classification_category_descriptions={"4": "canidae"},
    )  # fmt: skip
    ours, theirs = (one["classifications"] for one in made["images"][0]["detections"])
    assert (ours, theirs) == ([["5", 0.75]], [["4", 0.8]])
    assert made["classification_categories"] == {"4": "fox", "5": "Vulpes vulpes"}
    assert made["info"]["earlier_classifier"] == "deepfaune"
    assert made["info"]["classifier"].startswith("linnaea ")


def test_an_animal_that_is_not_named_stays_a_detection(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    made = through(tmp_path, [{"file": "a.jpg", "detections": [box()]}])
    assert made["images"][0]["detections"] == [box() | {"classifications": []}]


def test_a_photograph_without_a_detector_is_one_box(tmp_path: Path) -> None:
    inputs = list_inputs([str(draw(tmp_path / "a.jpg"))])
    (image,) = json.loads(written("megadetector", answer(inputs, FOX)))["images"]
    assert image["file"] == str(tmp_path / "a.jpg")
    (whole,) = image["detections"]
    assert whole == {"category": "1", "conf": 1.0, "bbox": [0.0, 0.0, 1.0, 1.0], "classifications": [["0", 0.75]]}
    assert isinstance(whole["conf"], float)


def test_a_photograph_without_a_detector_and_an_organism_is_no_sure_animal(tmp_path: Path) -> None:
    inputs = list_inputs([str(draw(tmp_path / "a.jpg"))])
    (image,) = json.loads(written("megadetector", answer(inputs)))["images"]
    assert [one["conf"] for one in image["detections"]] == [0.0]


def test_the_whole_photograph_in_which_nothing_was_detected_may_be_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    detections = read(
        tmp_path / "md.json", {"info": INFO, "images": [{"file": "a.jpg", "detections": [box(conf=0.1)]}]}
    )
    rows = answer(detections.inputs(whole_where_empty=True), FOX)
    doubtful, whole = json.loads(written("megadetector", rows, detections))["images"][0]["detections"]
    assert doubtful == box(conf=0.1)
    assert whole["bbox"] == [0.0, 0.0, 1.0, 1.0]
    assert whole["conf"] == 0.75, "how sure the answer is; a detector saw nothing"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds, ten frames a second."""
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(30):
        video.write(np.full((48, 64, 3), number * 8, np.uint8))
    video.release()
    return tmp_path / "clip.mp4"


def test_a_video_is_one_record_with_its_frames(clip: Path, tmp_path: Path) -> None:
    inputs = list_inputs([str(clip)], every_s=1.0)
    (video,) = json.loads(written("megadetector", answer(inputs, FOX)))["images"]
    assert video["file"] == str(clip)
    assert video["frame_rate"] == pytest.approx(10)
    assert video["frames_processed"] == [0, 10, 20]
    assert [one["frame_number"] for one in video["detections"]] == [0, 10, 20]


def test_a_video_in_a_detectors_file_keeps_its_frames(clip: Path, tmp_path: Path) -> None:
    image = {"file": "clip.mp4", "frame_rate": 10.0, "frames_processed": [0, 7, 14, 21],
             "detections": [box(frame_number=14), box("2", frame_number=7)]}  # fmt: skip
    (video,) = through(tmp_path, [image], FOX)["images"]
    named, person = video.pop("detections")
    assert video == {key: value for key, value in image.items() if key != "detections"}
    assert named == box(frame_number=14) | {"classifications": [["0", 0.75]]}
    assert person == box("2", frame_number=7)


def test_a_video_that_cannot_be_read_has_the_fields_of_one(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    (video,) = json.loads(written("megadetector", answer(list_inputs([str(tmp_path / "clip.mp4")]))))["images"]
    assert video["failure"]
    assert video["detections"] is None
    assert video["frames_processed"] == []
    assert "frame_rate" in video


def test_another_detectors_categories_stay(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    made = through(tmp_path, [{"file": "a.jpg", "detections": [box("7")]}], FOX, detection_categories={"7": "fish"})
    assert made["detection_categories"] == {"7": "fish"}
    assert made["images"][0]["detections"][0]["category"] == "7"


def test_classes_of_one_species_are_categories_of_their_own(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    lineage = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "plexippus")
    adult, larva = (Taxon(lineage, common_name=f"Danaus plexippus {stage}") for stage in ("adult", "larva"))
    made = through(tmp_path, [{"file": "a.jpg", "detections": [box()]}], larva, adult)
    assert sorted(made["classification_categories"].values()) == [adult.common_name, larva.common_name]
