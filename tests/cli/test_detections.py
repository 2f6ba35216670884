"""``predict --detections`` as a user runs it: the cases that failed, what is said, every format."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from answered import draw

from linnaea.cli import main


@pytest.fixture
def predict(trained: Path, tmp_path: Path) -> Any:
    """Run ``predict`` with a small model and return its exit code."""

    def run(*words: str | Path) -> int:
        return main(["predict", *map(str, words), "--model", str(trained / "model"), "--output", str(tmp_path / "out")])

    return run


def box(category: str = "1", conf: float = 0.9, bbox: tuple[float, ...] = (0.1, 0.1, 0.5, 0.5)) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": list(bbox)}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Photographs a to d, of which a file of detections covers a to c: a fish and a diver, a diver, nothing."""
    for name in "abcd":
        draw(tmp_path / f"card/{name}.jpg")
    content = {"info": {"detector": "fish_v1", "detector_metadata": {"typical_detection_threshold": 0.3}},
               "detection_categories": {"1": "fish", "2": "person"},
               "images": [{"file": "a.jpg", "detections": [box(), box("2"), box(bbox=(0.5, 0.5, 0, 0.1))]},
                          {"file": "b.jpg", "detections": [box("2")]},
                          {"file": "c.jpg", "detections": [box(conf=0.25)]}]}  # fmt: skip
    (tmp_path / "fish.json").write_text(json.dumps(content))
    return tmp_path / "card"


def test_what_another_detector_found_is_named(
    predict: Any, card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(card, "--detections", tmp_path / "fish.json", "--format", "megadetector") == 0
    printed = capsys.readouterr()
    said = printed.err
    assert printed.out == f"4 photographs: {tmp_path / 'out'}\n", "five rows, but a has two boxes"
    assert "detections count from a confidence of 0.3 on" in said
    assert f"says nothing about 1 of the 4 files in {card}; each is a row that says so" in said
    assert "detections without an area in their picture, a category or a confidence are left out (1)" in said
    a, b, c, d = json.loads((tmp_path / "out").read_text())["images"]
    fish, diver = a["detections"]
    assert len(fish["classifications"]) == 5
    assert "classifications" not in diver
    assert b["detections"] == [box("2")]
    assert c["detections"] == [box(conf=0.25)]
    assert (d["failure"], d["detections"]) == ("not in the detector's file", None), "not an empty photograph"
    assert predict(card, "--detections", tmp_path / "fish.json", "--format", "camtrapdp") == 0
    table = pl.read_csv(tmp_path / "out")
    assert table["observationType"].to_list()[1:] == ["human", "human", "blank", "unclassified"]
    assert table["scientificName"][0], "named"
    assert predict(card, "--detections", tmp_path / "fish.json", "--format", "csv", "--detection-threshold", "0.2") == 0
    rows = pl.read_csv(tmp_path / "out").unique("file_name", maintain_order=True)
    assert rows["detection_category"].to_list() == ["fish", "person", "person", "fish", None]
    assert rows["status"].to_list() == ["ok", "abstained", "abstained", "ok", "abstained"]
    assert rows["reason"][4] == "not in the detector's file"


def test_a_photograph_of_people_can_be_all_there_is(predict: Any, card: Path, tmp_path: Path) -> None:
    words = ("--detections", tmp_path / "fish.json", "--animal-categories", "person")
    assert predict(card, *words, "--format", "speciesnet") == 0
    a, b, _, d = json.loads((tmp_path / "out").read_text())["predictions"]
    assert [one["label"] for one in a["detections"]] == ["fish", "animal"]
    assert b["detections"][0]["processed_classification"]["source"] == "classifier"
    assert d["failures"] == ["DETECTOR"]
    assert predict(card, "--detections", tmp_path / "fish.json", "--animal-categories", "crab") == 2


@pytest.mark.parametrize("form", ["megadetector", "speciesnet"])
def test_a_photograph_that_was_omitted_is_not_a_failure_later(
    form: str, predict: Any, card: Path, tmp_path: Path
) -> None:
    """A file that Linnaea wrote is read again: what no detector has seen is still no failure."""
    assert predict(card, "--detections", tmp_path / "fish.json", "--format", form) == 0
    (tmp_path / "out").rename(tmp_path / "again.json")
    assert predict(card, "--detections", tmp_path / "again.json", "--format", "csv") == 0
    rows = pl.read_csv(tmp_path / "out")
    assert rows.filter(pl.col("reason") == "not in the detector's file")["file_name"].to_list() == [str(card / "d.jpg")]


def test_one_photograph_of_a_detectors_file_may_be_asked_for(predict: Any, card: Path, tmp_path: Path) -> None:
    assert predict(card / "a.jpg", "--detections", tmp_path / "fish.json", "--format", "megadetector") == 0
    (image,) = json.loads((tmp_path / "out").read_text())["images"]
    assert image["file"] == "a.jpg"
    assert predict(card / "d.jpg", "--detections", tmp_path / "fish.json", "--format", "csv") == 0
    assert pl.read_csv(tmp_path / "out")["reason"].to_list() == ["not in the detector's file"]


def test_where_nothing_is_detected_the_photograph_is_named(predict: Any, card: Path, tmp_path: Path) -> None:
    assert predict(card, "--detections", tmp_path / "fish.json", "--whole-where-empty", "--format", "csv") == 0
    rows = pl.read_csv(tmp_path / "out").unique("file_name", keep="first", maintain_order=True)
    assert rows["status"].to_list() == ["ok", "abstained", "abstained", "ok", "ok"]
    assert rows["bbox"].to_list()[3:] == [None, None]


def test_other_boxes_are_another_question(predict: Any, card: Path, tmp_path: Path) -> None:
    """An interrupted command goes on only with the boxes that it began with."""
    asked = []
    for left in (0.1, 0.2):
        content = json.loads((tmp_path / "fish.json").read_text())
        content["images"][0]["detections"][0]["bbox"] = [left, 0.1, 0.5, 0.5]
        (tmp_path / "fish.json").write_text(json.dumps(content))
        log = tmp_path / f"{left}.jsonl"
        assert predict(card, "--detections", tmp_path / "fish.json", "--log", log, "--format", "csv") == 0
        asked.append(json.loads(log.read_text())["question"])
    assert asked[0].pop("boxes") != asked[1].pop("boxes")
    assert asked[0] == asked[1]


def test_speciesnets_instances_are_photographs(
    predict: Any, card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [{"filepath": str(card / f"{name}.jpg"), "country": "DEU"} for name in "ab"]
    (tmp_path / "instances.json").write_text(json.dumps({"instances": listed}))
    assert predict(tmp_path / "instances.json", "--format", "speciesnet") == 0
    made = json.loads((tmp_path / "out").read_text())["predictions"]
    assert [(one["filepath"], one["country"]) for one in made] == [(one["filepath"], "DEU") for one in listed]
    capsys.readouterr()
    assert predict(card, "--detections", tmp_path / "instances.json", "--format", "csv") == 2
    assert "in place of IMAGES" in capsys.readouterr().err


def test_photographs_are_sorted_beside_the_answers(
    predict: Any, card: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--detections", tmp_path / "fish.json", "--format", "csv", "--sort-into", tmp_path / "sorted")
    assert predict(card, *words) == 0
    assert "5 links in" in capsys.readouterr().err
    assert (tmp_path / "sorted/human/b.jpg").samefile(card / "b.jpg")
    assert (tmp_path / "sorted/blank/c.jpg").exists()
    assert (tmp_path / "sorted/unclassified/d.jpg").exists()


def test_an_unknown_ending_is_refused(predict: Any, card: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(card) == 2
    assert "must end in .csv" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--timezone", "Berlin"), ("--detection-threshold", "1.5")])
def test_words_that_mean_nothing_are_said(words: tuple[str, str], predict: Any, card: Path) -> None:
    assert predict(card, *words) == 2


@pytest.mark.parametrize("case", ["md-bad-box/md.json", "other-detector/fish.json"])
def test_the_shared_cases_are_named(case: str, shared: Path, predict: Any, tmp_path: Path) -> None:
    file = shared / "cases" / "images" / case
    if not file.exists():
        pytest.skip(f"../shared/cases/images/{case} is not here")
    assert predict(file.parent / "photos", "--detections", file, "--format", "megadetector") == 0
    (image,) = json.loads((tmp_path / "out").read_text())["images"]
    assert image["file"] == "a.jpg"
    assert len(image["detections"]) == (2 if case.startswith("md-bad-box") else 1)
    assert all(one["classifications"] for one in image["detections"])
