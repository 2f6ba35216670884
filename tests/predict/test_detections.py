"""Files of detectors: what each kind of them says is read, and becomes inputs to name or to keep as they are."""

import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from linnaea.data.images import ImageError
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.detection_files import is_instances, open_detections, read_box
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import EmptyPictureError, Input

WHOLE = [0.0, 0.0, 1.0, 1.0]


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """Left half red, right half blue, 80 x 40."""
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :40, 2], picture[:, 40:, 0] = 255, 255
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path


def mean_colour(picture: Any) -> list[int]:
    return [round(float(channel) / 255) for channel in picture.mean(axis=(0, 1))]


def box(category: str = "1", conf: Any = 0.9, bbox: Any = WHOLE, **facts: Any) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": bbox, **facts}


def read(folder: Path, content: dict[str, Any], *animal_categories: str, root: Path | None = None) -> Detections:
    path = folder / "md.json"
    path.write_text(json.dumps(content))
    return open_detections(path, root, animal_categories)


def one_file(folder: Path, *detections: dict[str, Any], **content: Any) -> Detections:
    return read(folder, {"images": [{"file": "a.jpg", "detections": list(detections)}], **content})


def short(inputs: list[Input]) -> list[str]:
    return [one.name.rpartition("/")[2] for one in inputs]


def reason(one: Input) -> str:
    with pytest.raises(ImageError) as error:
        one.load(None)
    return str(error.value)


def test_animals_are_crops_and_people_stay_people(jpeg: Path, tmp_path: Path) -> None:
    content = {
        "detection_categories": {"1": "animal", "2": "person"},
        "images": [
            {"file": "a.jpg", "detections": [
                box(bbox=[0.5, 0, 0.5, 1]), box(conf=0.1), box("2"), box(conf=0.8, bbox=[0, 0, 0.25, 0.5]),
                box(conf=0.8, bbox=[1.2, 0, 0.25, 0.5])]},
            {"file": "b.jpg", "failure": "image access failure"},
            {"file": "c.jpg", "detections": [box("2")]},
            {"file": "d.jpg", "detections": []},
        ],
    }  # fmt: skip
    detections = read(tmp_path, content)
    inputs = detections.inputs(0.2)
    assert short(inputs) == ["a.jpg#0", "a.jpg#2", "a.jpg#3", "b.jpg", "c.jpg#0", "d.jpg"]
    right, person, left, failed, alone, empty = inputs
    assert right.load(None).shape == (40, 40, 3)
    assert mean_colour(right.load(None)) == [0, 0, 1]
    assert left.load(None).shape == (20, 20, 3)
    assert mean_colour(left.load(None)) == [1, 0, 0]
    for one in (person, alone):
        assert (one.category, one.box) == ("person", (0, 0, 1, 1))
        assert reason(one) == "person: not to be named"
    assert reason(failed) == "no detections: image access failure"
    with pytest.raises(EmptyPictureError, match="no animal detected"):
        empty.load(None)
    assert detections.n_unusable == 1, "the box outside the picture"


@pytest.mark.parametrize(
    ("categories", "named", "kept"),
    [
        ({"1": "fish"}, ["1"], []),
        ({"0": "Vulpes vulpes", "1": "Lynx lynx"}, ["0", "1"], []),
        ({"1": "animal", "2": "human", "3": "Vehicle"}, ["1"], ["2", "3"]),
        ({"1": "animal", "2": "empty"}, ["1"], []),
        (None, ["1"], ["2", "3"]),
        ({}, ["1"], ["2", "3"]),
        ({"1": None, "2": None}, ["1"], ["2"]),
    ],
)
def test_what_is_no_person_or_vehicle_is_named(
    categories: Any, named: list[str], kept: list[str], jpeg: Path, tmp_path: Path
) -> None:
    numbers = list(categories or ["1", "2", "3"])
    inputs = one_file(tmp_path, *map(box, numbers), detection_categories=categories).inputs()
    by_kind: dict[bool, list[str]] = {True: [], False: []}
    for one in inputs:
        try:
            one.load(None)
            by_kind[True].append(numbers[one.detection])
        except EmptyPictureError:
            by_kind[False].append(numbers[one.detection])
    assert (by_kind[True], by_kind[False]) == (named, kept)


UNUSABLE: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing needs no box": ([box("4", bbox=[0, 0, 0, 0], conf=0)], "no animal detected"),
    "a flat box below the threshold": ([box(bbox=[0, 0, 0.1, 0], conf=0.01)], "no animal detected"),
    "a flat box above, another below": ([box(bbox=[0, 0, 0.1, 0]), box(conf=0.01)], "area inside"),
    "pixels": ([box(bbox=[10, 10, 300, 200])], "area inside.*0 to 1"),
    "no category": ([{"conf": 0.9, "bbox": [0, 0, 1, 1]}], "no category"),
    "no confidence": ([{"category": "1", "bbox": [0, 0, 1, 1]}], "confidence None"),
    "percent": ([box(conf=95)], "confidence 95, not 0 to 1"),
    "below zero": ([box(conf=-1)], "confidence -1, not 0 to 1"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_detection_that_cannot_be_used_makes_no_photograph_empty(kind: str, jpeg: Path, tmp_path: Path) -> None:
    listed, expected = UNUSABLE[kind]
    categories = {"1": "animal", "4": "empty"}
    (one,) = one_file(tmp_path, *listed, detection_categories=categories).inputs(0.2)
    assert re.search(expected, reason(one))


def test_numbers_as_text_are_numbers(jpeg: Path, tmp_path: Path) -> None:
    detections = one_file(tmp_path, box(conf="0.9", bbox=["0", "0", "0.5", "1"]))
    (one,) = detections.inputs()
    assert (one.detection_confidence, one.load(None).shape) == (0.9, (40, 40, 3))
    (found,) = detections.records[0].detections or ()
    assert found.facts["conf"] == 0.9


def test_two_spellings_of_a_path_are_one_photograph(jpeg: Path, tmp_path: Path) -> None:
    (tmp_path / "A").mkdir()
    shutil.copy(jpeg, tmp_path / "A" / "a.jpg")
    images = [{"file": name, "detections": [box(conf=conf)]}
              for name, conf in (("A/a.jpg", 0.9), ("A\\a.jpg", 0.8), ("./A/a.jpg", 0.7))]  # fmt: skip
    detections = read(tmp_path, {"images": images, "detection_categories": {"1": "animal"}}, root=tmp_path)
    assert [record.file for record in detections.records if record.listed] == ["A/a.jpg"]
    detections = detections.only(tmp_path / "A" / "a.jpg")
    names = [one.name for one in detections.inputs()]
    assert len(set(names)) == len(names) == 3


def test_annotations_of_coco_are_no_detections(tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="COCO"):
        read(tmp_path, {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []})


def test_animal_categories_decide_otherwise(jpeg: Path, tmp_path: Path) -> None:
    content = {"detection_categories": {"1": "Fish", "2": "buoy", "3": "person"},
               "images": [{"file": "a.jpg", "detections": [box("1"), box("2"), box("3")]}]}  # fmt: skip
    for words in (["fish"], ["1"]):
        fish, buoy, person = read(tmp_path, content, *words).inputs()
        assert fish.load(None).shape == (40, 80, 3)
        assert [reason(buoy), reason(person)] == ["buoy: not to be named", "person: not to be named"]
    _, _, person = read(tmp_path, content, "person").inputs()
    assert person.load(None).shape == (40, 80, 3)
    with pytest.raises(UsageError, match="--animal-categories crab: the file has the categories Fish, buoy, person"):
        read(tmp_path, content, "crab")


def test_pytorchwildlife_counts_categories_from_0(jpeg: Path, tmp_path: Path) -> None:
    of_all_boxes = [["0", 0.95], ["1", 0.9]]
    content = {
        "info": {"detector": "megadetector_v5"},
        "detection_categories": {"0": "animal", "1": "person", "2": "vehicle"},
        "classification_categories": {"0": "deer", "1": "fox"},
        "images": [
            {"file": "a.jpg", "max_detection_conf": 0.9, "detections": [
                box("0", classifications=of_all_boxes), box("1", classifications=of_all_boxes)]},
            {"file": "b.jpg", "max_detection_conf": "", "detections": []},
        ],
    }  # fmt: skip
    animal, person, empty = read(tmp_path, content).inputs(0.2)
    assert animal.load(None).shape == (40, 80, 3)
    assert reason(person) == "person: not to be named"
    with pytest.raises(EmptyPictureError, match="no animal detected"):
        empty.load(None)


def test_a_category_that_the_file_does_not_list_is_no_detection(jpeg: Path, tmp_path: Path) -> None:
    """So the format says."""
    inputs = one_file(tmp_path, box("7"), detection_categories={"1": "animal"}).inputs()
    assert [reason(one) for one in inputs] == ["no animal detected"]


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ([0.15, 0.2, 0.4, 0.4], (0.15, 0.2, 0.4, 0.4)),
        ([-0.1, 0.0, 0.5, 1.2], (0.0, 0.0, 0.4, 1.0)),
        ([0.9, 0.9, 0.2, 0.2], (0.9, 0.9, 0.1, 0.1)),
        ([0.5, 0.5, 0.0, 0.1], None),
        ([0.5, 0.5, 0.1, -0.1], None),
        ([1.2, 0.0, 0.2, 0.2], None),
        ([0.1, 0.1, 0.1], None),
        ([0.1, 0.1, "x", 0.1], None),
        ([0.1, 0.1, float("nan"), 0.1], None),
        (None, None),
    ],
)
def test_boxes_are_clipped_to_the_picture(stated: Any, read: Any) -> None:
    assert read_box(stated) == (None if read is None else pytest.approx(read))


def test_a_photograph_whose_only_box_has_no_area_is_not_called_empty(jpeg: Path, tmp_path: Path) -> None:
    (only,) = one_file(tmp_path, box(bbox=[0.5, 0.5, 0, 0.1])).inputs()
    assert "no detection has a box with an area" in reason(only)
    with pytest.raises(ImageError) as error:
        only.load(None)
    assert not isinstance(error.value, EmptyPictureError)


@pytest.mark.parametrize(
    ("info", "threshold"),
    [
        ({"detector": "fish_v1", "detector_metadata": {"typical_detection_threshold": 0.3}}, 0.3),
        ({"detector": "md_v4.1.0.pb"}, 0.8),
        ({"detector": "megadetector_v4.1"}, 0.8),
        ({"detector": "fish_v3.pt"}, 0.2),
        ({"detector": "md_v1000.0.0-redwood.pt"}, 0.3),
        ({"detector": "md_v1000.0.0-larch.pt"}, 0.2),
        ({"detector": "md_v5a.0.0.pt", "detector_metadata": {"typical_detection_threshold": 0.25}}, 0.25),
        ({"detector": "md_v5b.0.1.pt"}, 0.2),
        ({"detector": None, "detector_metadata": None}, 0.2),
        (None, 0.2),
    ],
)
def test_the_threshold_is_the_files(info: Any, threshold: float, jpeg: Path, tmp_path: Path) -> None:
    detections = one_file(tmp_path, box(conf=threshold), box(conf=threshold - 0.01), info=info)
    assert detections.threshold == threshold
    assert short(detections.inputs()) == ["a.jpg#0"]
    assert short(detections.inputs(0.0)) == ["a.jpg#0", "a.jpg#1"]


def test_where_nothing_is_detected_the_whole_photograph_may_be_named(jpeg: Path, tmp_path: Path) -> None:
    detections = one_file(tmp_path, box(conf=0.05))
    (whole,) = detections.inputs(whole_where_empty=True)
    assert whole.box is None
    assert whole.load(None).shape == (40, 80, 3)
    assert [reason(one) for one in detections.inputs()] == ["no animal detected"]


@pytest.mark.parametrize("file", ["cam 1/a.jpg", "cam 1\\a.jpg", "project/2024/cam 1/a.jpg", "C:\\cards\\cam 1\\a.jpg"])
def test_files_are_found_whatever_folders_their_names_begin_with(file: str, jpeg: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "cam 1").mkdir(parents=True)
    jpeg.rename(folder / "cam 1" / "a.jpg")
    detections = read(tmp_path, {"images": [{"file": file, "detections": [box()]}]}, root=folder)
    assert detections.records[0].file == file
    assert detections.inputs()[0].load(None).shape == (40, 80, 3)


def test_photographs_of_two_cameras_are_never_mixed_up(jpeg: Path, tmp_path: Path) -> None:
    """Only folders that all files share are left out, so a.jpg of one camera is not taken for that of another."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cam3").mkdir()
    shutil.copy(jpeg, folder / "cam3" / "a.jpg")
    jpeg.rename(folder / "a.jpg")
    images = [{"file": f"cam{number}/a.jpg", "detections": [box()]} for number in (1, 2, 3)]
    lost_1, lost_2, there, other = read(tmp_path, {"images": images}, root=folder).inputs()
    assert all("no such file" in reason(one) for one in (lost_1, lost_2))
    assert there.load(None).shape == (40, 80, 3)
    assert reason(other) == "not in the detector's file"


def test_a_file_about_another_folder_is_an_error(jpeg: Path, tmp_path: Path) -> None:
    """Else every photograph of the folder would be a row without an answer."""
    images = [{"file": f"cam{number}/b.jpg", "detections": [box()]} for number in (1, 2)]
    with pytest.raises(LinnaeaError, match=r"none of its files is in .*; give the folder .* \(cam1/b.jpg"):
        read(tmp_path, {"images": images})


def test_a_photograph_that_the_file_omits_is_an_input_that_says_so(jpeg: Path, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(jpeg.read_bytes())
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    detections = one_file(tmp_path, box())
    assert (detections.n_unlisted, detections.n_files) == (2, 3)
    crop, omitted, clip = detections.inputs()
    assert short([crop, omitted, clip]) == ["a.jpg#0", "b.jpg", "clip.mp4"]
    for one in (omitted, clip):
        with pytest.raises(EmptyPictureError, match="not in the detector's file"):
            one.load(None)  # an abstention, not a failure
    _, whole, clip = detections.inputs(whole_where_empty=True)
    assert whole.load(None).shape == (40, 80, 3)
    assert reason(clip) == "not in the detector's file"


def test_a_file_of_a_mac_names_the_photographs_of_another_system(jpeg: Path, tmp_path: Path) -> None:
    (tmp_path / "Höhle.jpg").write_bytes(jpeg.read_bytes())
    jpeg.unlink()
    name = unicodedata.normalize("NFD", "Höhle.jpg")
    (tmp_path / "md.json").write_text(json.dumps({"images": [{"file": name, "detections": [box()]}]}))
    detections = open_detections(tmp_path / "md.json", tmp_path)
    assert detections.n_unlisted == 0
    (crop,) = detections.inputs()
    assert crop.load(None).size


def test_a_file_that_is_listed_twice_is_one_record(jpeg: Path, tmp_path: Path) -> None:
    image = {"file": "a.jpg", "detections": [box()]}
    twice = read(tmp_path, {"images": [image, image, {"file": "a.jpg", "detections": [box(conf=0.8)]}]})
    assert short(twice.inputs()) == ["a.jpg#0", "a.jpg#1"]


def test_a_detection_in_a_video_is_a_crop_of_its_frame(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(30):
        video.write(np.full((48, 64, 3), number * 8, np.uint8))
    video.release()
    image = {"file": "clip.mp4", "frame_rate": 10, "frames_processed": [0, 10, 20],
             "detections": [box(frame_number=20, bbox=[0, 0, 0.5, 1]), box(frame_number=0), box()]}  # fmt: skip
    later, first, unknown = read(tmp_path, {"images": [image]}).inputs()
    assert short([later, first]) == ["clip.mp4#t=2.0#0", "clip.mp4#t=0.0#1"]
    assert later.load(None).shape == (48, 32, 3)
    assert abs(later.load(None).mean() - 160) < 8
    assert first.load(None).mean() < 8
    assert "states no frame_number" in reason(unknown)


def speciesnet(**prediction: Any) -> dict[str, Any]:
    return {"predictions": [{"filepath": "a.jpg", **prediction}]}


LABELLED = box(label="animal") | {"processed_classification": {"class": "x;;;;;;animal", "score": 0.9, "source": "d"}}


@pytest.mark.parametrize(
    ("prediction", "names"),
    [
        ({"detections": [LABELLED, box("2", label="human")]}, ["a.jpg#0", "a.jpg#1"]),
        ({"detections": [box(label="animal")], "prediction": "x;mammalia;;;;;mammal"}, ["a.jpg#0"]),
        ({"detections": [box("0", label="whole_image_classification")]}, ["a.jpg"]),
        ({"classifications": {"classes": ["x;mammalia;;;;;mammal"], "scores": [0.9]}}, ["a.jpg"]),
        ({"detections": [box(label="animal")], "failures": ["CLASSIFIER"]}, ["a.jpg#0"]),
    ],
)
def test_speciesnets_predictions_of_either_format_are_detections(
    prediction: dict[str, Any], names: list[str], jpeg: Path, tmp_path: Path
) -> None:
    detections = read(tmp_path, speciesnet(**prediction))
    inputs = detections.inputs()
    assert short(inputs) == names
    assert inputs[0].load(None).shape == (40, 80, 3)
    assert detections.form == "speciesnet"
    if len(inputs) > 1:
        assert reason(inputs[1]) == "human: not to be named"


@pytest.mark.parametrize(
    ("prediction", "why"),
    [
        ({"detections": []}, "no animal detected"),
        ({"detections": [box("0", label="whole_image_classification",
                             processed_classification={"class": "x;;;;;;blank", "score": 1.0})]}, "no animal detected"),
        ({"failures": ["DETECTOR", "CLASSIFIER"]}, "no detections: DETECTOR, CLASSIFIER"),
    ],
)  # fmt: skip
def test_what_speciesnet_did_not_see_is_said(prediction: dict[str, Any], why: str, jpeg: Path, tmp_path: Path) -> None:
    assert [reason(one) for one in read(tmp_path, speciesnet(**prediction)).inputs()] == [why]


def test_instances_are_photographs_with_their_place(jpeg: Path, tmp_path: Path) -> None:
    content = {"instances": [{"filepath": str(jpeg), "country": "DEU", "latitude": 52.5, "longitude": 13.4}]}
    detections = read(tmp_path, content)
    (one,) = detections.inputs()
    assert one.load(None).shape == (40, 80, 3)
    assert (one.box, one.place) == (None, (52.5, 13.4))
    assert detections.records[0].facts["country"] == "DEU"
    assert is_instances(tmp_path / "md.json")
    assert not is_instances(jpeg)


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', "{", '{"predictions": null}'])
def test_a_file_that_is_no_detectors_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "md.json").write_text(text)
    with pytest.raises(LinnaeaError, match="not a MegaDetector file"):
        open_detections(tmp_path / "md.json")
