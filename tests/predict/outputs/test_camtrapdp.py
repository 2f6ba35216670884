"""Rows of Camtrap DP: what was seen is said in its words, with the time and the offset that it asks for."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
from answered import FOX, HUMAN, answer, draw, read, written
from PIL import Image

from linnaea.errors import UsageError
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.camtrapdp import moment_of, parse_zone
from linnaea.predict.outputs.rows import Row
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

BERLIN = ZoneInfo("Europe/Berlin")


def observed(rows: Sequence[Row], detections: Detections | None = None, **context: Any) -> list[dict[str, str]]:
    return [*csv.DictReader(StringIO(written("camtrapdp", rows, detections, **context)))]


def detected(folder: Path, word: str, *taxa: Taxon, categories: Sequence[str] = (), **box: Any) -> dict[str, str]:
    """The observation of one detection of this category, answered with ``taxa``."""
    draw(folder / "a.jpg")
    detection = {"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]} | box
    content = {"info": {"detector": "md_v5a.0.0.pt"}, "detection_categories": {"1": word},
               "images": [{"file": "a.jpg", "detections": [detection]}]}  # fmt: skip
    detections = read(folder / "md.json", content, *categories)
    (row,) = observed(answer(detections.inputs(), *taxa)[:1], detections)
    return row


@pytest.mark.parametrize(
    ("word", "kind", "name"),
    [("person", "human", "Homo sapiens"), ("Human", "human", "Homo sapiens"), ("vehicle", "vehicle", "")],
)
def test_people_and_vehicles_stay_what_they_are(word: str, kind: str, name: str, tmp_path: Path) -> None:
    row = detected(tmp_path, word)
    assert (row["observationType"], row["scientificName"]) == (kind, name)
    assert (row["classifiedBy"], row["classificationProbability"]) == ("md_v5a.0.0.pt", "0.9")
    assert row["mediaID"] == str(tmp_path / "a.jpg")


def test_an_answer_is_an_animal(tmp_path: Path) -> None:
    row = detected(tmp_path, "fish", FOX)
    assert (row["observationType"], row["scientificName"]) == ("animal", "Vulpes vulpes")
    assert row["classifiedBy"].startswith("linnaea ")
    assert [row[f"bbox{side}"] for side in ("X", "Y", "Width", "Height")] == ["0.1", "0.1", "0.5", "0.5"]


def test_an_animal_without_an_answer_is_an_animal_without_a_name(tmp_path: Path) -> None:
    row = detected(tmp_path, "animal")
    assert (row["observationType"], row["scientificName"], row["classificationProbability"]) == ("animal", "", "0.9")
    assert row["observationComments"] == "no organism recognised"


def test_nothing_detected_is_blank(tmp_path: Path) -> None:
    assert detected(tmp_path, "animal", FOX, conf=0.1)["observationType"] == "blank"


def test_a_thing_that_was_not_asked_for_is_not_blank(tmp_path: Path) -> None:
    content = {"detection_categories": {"1": "buoy", "2": "fish"}, "images": [
        {"file": "a.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}]}]}  # fmt: skip
    detections = read(tmp_path / "md.json", content, "fish")
    (row,) = observed(answer(detections.inputs(), FOX), detections)
    assert (row["observationType"], row["observationComments"]) == ("unclassified", "buoy: not to be named")


@pytest.mark.parametrize(
    ("taxon", "kind", "name"),
    [
        (HUMAN, "human", "Homo sapiens"),
        (FOX.at(Rank.PHYLUM), "animal", "Chordata"),
        (Taxon.of(genus="Pica", species="pica"), "animal", "Pica pica"),
        (Taxon.of(genus="Salix", species="alba"), "unclassified", "Salix alba"),
        (Taxon.of({"kingdom": "Plantae", "genus": "Salix"}), "unclassified", "Salix"),
        (Taxon.of(genus="Zyxia", species="nova"), "unclassified", "Zyxia nova"),
        (Taxon.of(common_name="red|thing"), "unclassified", ""),
    ],
)
def test_labels_without_a_lineage_are_resolved(taxon: Taxon, kind: str, name: str, tmp_path: Path) -> None:
    (row,) = observed(answer(list_inputs([str(draw(tmp_path / "a.jpg"))]), taxon))
    assert (row["observationType"], row["scientificName"]) == (kind, name)
    assert row["observationTags"] == ("" if name else "label:red/thing"), "a bin's word is no scientific name"


def test_a_detected_animal_with_an_unknown_label_is_an_animal(tmp_path: Path) -> None:
    for taxon, name in ((Taxon.of(genus="Zyxia", species="nova"), "Zyxia nova"), (Taxon.of(common_name="thing"), "")):
        row = detected(tmp_path, "animal", taxon)
        assert (row["observationType"], row["scientificName"]) == ("animal", name)


def test_the_frames_of_a_video_belong_to_it(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(20):
        video.write(np.full((48, 64, 3), number * 8, np.uint8))
    video.release()
    rows = observed(answer(list_inputs([str(tmp_path / "clip.mp4")]), FOX))
    assert {row["mediaID"] for row in rows} == {str(tmp_path / "clip.mp4")}
    assert len({row["observationID"] for row in rows}) == 2


def photograph(folder: Path, taken: str, offset: str = "") -> Path:
    """A photograph with this time in its EXIF."""
    path, exif = folder / "taken.jpg", Image.Exif()
    exif.get_ifd(0x8769).update({36867: taken} | ({36881: offset} if offset else {}))
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("taken", "zone", "moment", "note"),
    [
        ("2024:07:01 12:00:00", "Europe/Berlin", "2024-07-01T12:00:00+02:00", ""),
        ("2024:01:01 12:00:00", "Europe/Berlin", "2024-01-01T12:00:00+01:00", ""),
        ("2024:07:01 12:00:00", "+01:00", "2024-07-01T12:00:00+01:00", ""),
        ("2024:07:01 12:00:00", "-03:30", "2024-07-01T12:00:00-03:30", ""),
        ("2024:10:27 02:30:00", "Europe/Berlin", "2024-10-27T02:30:00+02:00", "2024-10-27 02:30 occurs twice"),
        ("2024:03:31 02:30:00", "Europe/Berlin", "2024-03-31T02:30:00+01:00", "2024-03-31 02:30 does not exist"),
        ("0000:00:00 00:00:00", "Europe/Berlin", "", ""),
    ],
)
def test_the_cameras_time_zone_gives_the_offset(taken: str, zone: str, moment: str, note: str, tmp_path: Path) -> None:
    path, told = photograph(tmp_path, taken), list[str]()
    rows = answer(list_inputs([str(path)]), FOX)
    (row,) = observed(rows, zone=parse_zone(zone), tell=told.append)
    assert row["eventStart"] == row["eventEnd"] == moment
    assert row["observationComments"].startswith(note)
    assert bool(row["observationComments"]) == bool(note) == bool(told)
    assert observed(rows)[0]["eventStart"] == "", "without a time zone it is not known"


def test_an_offset_that_the_camera_wrote_comes_first(tmp_path: Path) -> None:
    path = photograph(tmp_path, "2024:07:01 12:00:00", "+05:00")
    assert moment_of(path, BERLIN) == ("2024-07-01T12:00:00+05:00", "")


@pytest.mark.parametrize("text", ["Berlin", "+25:00", "../etc", "Europe/"])
def test_a_zone_that_does_not_exist_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="--timezone"):
        parse_zone(text)
