"""A detector that runs first: what it finds is cropped, named and kept, as if its file had been read."""

import json
import sys
import tarfile
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from answered import FOX, answer, draw, written
from PIL import ImageFile

from linnaea.data.images import Picture
from linnaea.errors import LinnaeaError
from linnaea.predict.detections import Detections
from linnaea.predict.detector import detect_all, load_detector
from linnaea.predict.inputs import list_inputs

BOX = {"category": "1", "conf": 0.9, "bbox": [0.5, 0.0, 0.5, 1.0]}


def right_half(picture: Picture, name: str) -> list[dict[str, Any]]:
    """A detector that sees an animal on the right of every picture that is not dark."""
    return [dict(BOX)] if picture.mean() > 50 else []


def found(*words: Path, weights: str = "md_v5a.0.0.pt", every_s: float = 1.0) -> Detections:
    return detect_all(right_half, list_inputs([*map(str, words)], every_s=every_s), Path(weights))


def test_what_is_found_is_cropped(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    cv2.imwrite(str(tmp_path / "dark.jpg"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    detections = found(tmp_path)
    inputs = {one.name.rpartition("/")[2]: one for one in detections.inputs()}
    assert list(inputs) == ["a.jpg#0", "broken.jpg", "dark.jpg"]
    assert inputs["a.jpg#0"].load(None).shape == (40, 30, 3)
    made = json.loads(written("megadetector", answer(detections.inputs(), FOX), detections))
    a, broken, dark = made["images"]
    assert a["detections"] == [BOX | {"classifications": [["0", 0.75]]}]
    assert broken["failure"]
    assert dark["detections"] == []
    assert made["info"]["detector"] == "md_v5a.0.0.pt"


def test_members_of_tars_are_cropped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "card.tar", "w") as tar:
        tar.add(draw(tmp_path / "a.jpg"), "a.jpg")
    (crop,) = found(tmp_path / "card.tar").inputs()
    assert crop.name.endswith("card.tar/a.jpg#0")
    assert crop.load(None).shape == (40, 30, 3)


def test_the_frames_of_a_video_are_one_record(tmp_path: Path) -> None:
    video = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for number in range(30):
        video.write(np.full((48, 64, 3), number * 8, np.uint8))
    video.release()
    detections = found(tmp_path / "clip.mp4")
    (record,) = detections.records
    assert record.facts["frames_processed"] == [0, 10, 20]
    assert [one.frame for one in record.detections or ()] == [10, 20]
    assert [one.name.rpartition("/")[2] for one in detections.inputs()] == ["clip.mp4#t=1.0#0", "clip.mp4#t=2.0#1"]
    assert [one.load(None).shape for one in detections.inputs()] == [(48, 32, 3)] * 2


def test_the_threshold_is_that_of_the_weights(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    assert found(tmp_path / "a.jpg", weights="md_v1000.0.0-redwood.pt").threshold == 0.3


def test_without_the_package_or_the_weights_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LinnaeaError, match="no such file"):
        load_detector(tmp_path / "none.pt")
    (tmp_path / "md.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "megadetector", None)
    with pytest.raises(LinnaeaError, match="extra detector"):
        load_detector(tmp_path / "md.pt")


def test_the_package_changes_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MegaDetector's package prints to standard output, and lets Pillow fill damaged pictures with grey."""

    class Noisy:
        def generate_detections_one_image(self, picture: Picture, name: str, **_: Any) -> dict[str, Any]:
            print("looking")
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            return {"file": name, "detections": right_half(picture, name)}

    def load(weights: str, force_cpu: bool) -> Noisy:
        print("loading")
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        if weights.endswith("bad.pt"):
            raise RuntimeError("unexpected\nkeys")
        return Noisy()

    package = ModuleType("run_detector")
    package.load_detector = load  # type: ignore[attr-defined]
    for name in ("megadetector", "megadetector.detection", "megadetector.detection.run_detector"):
        monkeypatch.setitem(sys.modules, name, package)
    for name in ("md.pt", "bad.pt"):
        (tmp_path / name).write_bytes(b"weights")
    output = StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    detect = load_detector(tmp_path / "md.pt")
    assert detect(np.full((40, 60, 3), 200, np.uint8), "a.jpg") == [BOX]
    with pytest.raises(LinnaeaError, match="cannot load these weights \\(unexpected keys\\)"):
        load_detector(tmp_path / "bad.pt")
    assert output.getvalue() == ""
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
