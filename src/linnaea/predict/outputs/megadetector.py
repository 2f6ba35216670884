"""MegaDetector's batch format, version 1.6, with taxa as classifications (lila.science/megadetector-output-format)."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from linnaea import __version__
from linnaea.predict.detections import MEGADETECTOR_CATEGORIES, NOT_NAMED
from linnaea.predict.outputs.files import AnsweredFile, Context, Found, describe, iter_files
from linnaea.predict.outputs.rows import Row, Writable, class_name, probability_of

CLASSIFICATIONS = ("classification_categories", "classification_category_descriptions")

SPECIESNETS = ("raw_classifications", "processed_classification")
"""What SpeciesNet says about a detection; its classes have no numbers."""


class _Categories:
    """The numbers of detectors' categories and of taxa, those of the detector's file first."""

    def __init__(self, detected: Mapping[str, str], others: Mapping[str, Any]) -> None:
        self.detected = dict(detected)
        names, known = (part if isinstance(part := others.get(key), dict) else {} for key in CLASSIFICATIONS)
        stated = {str(number): str(name or "").strip() for number, name in names.items()}
        self.names = {number: name for number, name in stated.items() if number.isdecimal() and name}
        self.descriptions = {number: str(known.get(number) or name) for number, name in self.names.items()}
        self._number_of = {description: number for number, description in self.descriptions.items()}
        self._free = 1 + max([int(number) for number in self.names if number.isdecimal()] or [-1])

    def keep(self, classifications: Any) -> list[Any]:
        """Return the classifications of an earlier classifier whose categories are stated."""
        listed = classifications if isinstance(classifications, list) else []
        return [one for one in listed if isinstance(one, list) and len(one) == 2 and str(one[0]) in self.names
                and isinstance(one[1], int | float)]  # fmt: skip

    def number_of_taxon(self, row: Row) -> str:
        """Return the number of a row's taxon; each lineage has its own."""
        description = describe(row)
        number = self._number_of.get(description)
        if number is None:
            number, self._free = str(self._free), self._free + 1
            self._number_of[description] = number
            self.names[number], self.descriptions[number] = class_name(row), description
        return number

    def number_of_word(self, word: str) -> str:
        """Return the number of a detector's category."""
        for number, known in self.detected.items():
            if known == word:
                return number
        number = str(1 + max(int(number) for number in self.detected))
        self.detected[number] = word
        return number


def write_megadetector(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write MegaDetector's batch format, version 1.6, with the taxa as classifications, best first.

    What a detector's file says is kept: its names of files, its facts, and detections that were not asked about. A
    photograph that no detector has seen has one detection, the whole picture, with confidence 1. A photograph in which
    a detector found nothing has none.
    """
    source = context.detections
    has_detector = source is not None and source.form != "instances"
    categories = _Categories(
        source.categories if source is not None and has_detector else MEGADETECTOR_CATEGORIES,
        source.others if source is not None else {},
    )
    images = [_image(one, categories) for one in iter_files(rows, source)]
    info = dict(source.info) if source is not None and source.form == "megadetector" else {}
    if "classifier" in info:
        info["earlier_classifier"] = info["classifier"]
    done = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    ours = {"format_version": "1.6", "classifier": f"linnaea {__version__}", "classification_completion_time": done}
    others = {} if source is None else {key: part for key, part in source.others.items() if key not in CLASSIFICATIONS}
    content = {
        "info": info | ours,
        "detection_categories": categories.detected,
        "classification_categories": categories.names,
        "classification_category_descriptions": categories.descriptions,
        **others,
        "images": images,
    }
    stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _image(one: AnsweredFile, categories: _Categories) -> dict[str, Any]:
    image: dict[str, Any] = {"file": one.name, **one.facts}
    if one.frame_rate is not None:
        image |= {"frame_rate": one.frame_rate, "frames_processed": list(one.frames)}
    if one.failure:
        return image | {"failure": one.failure, "detections": None}
    return image | {"detections": [_detection(found, categories) for found in one.found]}


def _detection(found: Found, categories: _Categories) -> dict[str, Any]:
    one = found.detection
    stated = {key: value for key, value in one.facts.items() if key not in ("label", *SPECIESNETS)}
    detection = stated | {
        "category": one.category or categories.number_of_word(one.word),
        "conf": float(one.confidence),
        "bbox": list(one.box),
    }
    if kept := categories.keep(stated.pop("classifications", None)):
        detection["classifications"] = kept
    else:
        detection.pop("classifications", None)
    if one.frame is not None:
        detection["frame_number"] = one.frame
    if found.rows and not found.rows[0]["reason"].endswith(NOT_NAMED):
        detection["classifications"] = [[categories.number_of_taxon(row), probability_of(row)] for row in found.guesses]
    return detection
