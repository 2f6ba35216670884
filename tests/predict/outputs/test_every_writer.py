"""Whatever stands in a detector's file, it is refused in one line or written by every writer."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answered import FOX, answer, draw, written

from linnaea.errors import LinnaeaError
from linnaea.predict.detection_files import open_detections

BOX = {"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5], "classifications": [["3", 0.5]]}
MEGADETECTOR = {
    "info": {"format_version": "1.4", "detector_metadata": {"typical_detection_threshold": 0.2}},
    "detection_categories": {"1": "animal", "2": "person"},
    "classification_categories": {"3": "x"},
    "classification_category_descriptions": {"3": "d"},
    "images": [{"file": "a.jpg", "detections": [BOX, BOX | {"category": "2"}]},
               {"file": "c.mp4", "frame_rate": 10, "frames_processed": [0], "detections": [BOX | {"frame_number": 0}]}],
}  # fmt: skip
SPECIESNET = {"predictions": [
    {"filepath": "a.jpg", "country": "USA", "latitude": 1.0, "longitude": 2.0,
     "detections": [BOX | {"label": "animal", "processed_classification": {"class": "x;;;;;;y", "score": 1}}]},
    {"filepath": "b.jpg", "failures": ["DETECTOR"]},
]}  # fmt: skip
JUNK = (None, "x", -1, float("inf"), [None], {"a": None})


def places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(child, (*place, key))


def put(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(content)
    node = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


@pytest.mark.parametrize("content", [MEGADETECTOR, SPECIESNET])
def test_one_wrong_value_never_ends_in_a_traceback(content: Any, tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    n_written = 0
    for place in places(content):
        for value in JUNK:
            (tmp_path / "found.json").write_text(json.dumps(put(content, place, value)))
            try:
                detections = open_detections(tmp_path / "found.json")
            except LinnaeaError:
                continue
            rows = answer(detections.inputs(), FOX)
            for form in ("megadetector", "speciesnet", "speciesnet-legacy", "camtrapdp"):
                written(form, rows, detections)
            n_written += 1
    assert n_written > 50
