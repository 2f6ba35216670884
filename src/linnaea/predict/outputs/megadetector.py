"""MegaDetector's batch format, version 1.6, with taxa as classifications."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from linnaea import __version__
from linnaea.predict.inputs import NO_ANIMAL
from linnaea.predict.outputs.rows import Row, Writable, box_of, by_photograph, file_of, finest_name


def write_megadetector(stream: Writable, rows: Iterable[Row]) -> None:
    """Write MegaDetector's batch format, version 1.6, with the taxa as classifications, best first.

    A photograph that no detector has seen has one detection, the whole picture, with confidence 1. A photograph in
    which a detector found no animal has none.
    """
    numbers: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    images = []
    parts = ((file_of(name, of_one[0]), of_one) for name, of_one in by_photograph(rows))
    for file, group in groupby(parts, key=lambda part: part[0]):
        image: dict[str, Any] = {"file": file, "detections": []}
        for _, of_one in group:
            if of_one[0]["status"] == "failed":
                image |= {"failure": of_one[0]["reason"], "detections": None}
                break
            if of_one[0]["reason"] == NO_ANIMAL:
                continue
            scores = []
            for row in (row for row in of_one if row["status"] == "ok"):
                name = finest_name(row)
                number = numbers.setdefault(name, str(len(numbers)))
                descriptions[number] = _description(row)
                scores.append([number, row["score"]])
            seen = of_one[0]["detection_confidence"]
            detection = {
                "category": "1",
                "conf": 1.0 if seen is None else seen,
                "bbox": list(box_of(of_one[0])),
                "classifications": scores,
            }
            image["detections"].append(detection)
        images.append(image)
    content = {
        "info": {"format_version": "1.6", "classifier": f"linnaea {__version__}",
                 "classification_completion_time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "classification_categories": {number: name for name, number in numbers.items()},
        "classification_category_descriptions": descriptions,
        "images": images,
    }  # fmt: skip
    stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _description(row: Row) -> str:
    """Return ``id;class;order;family;genus;species;common name`` in lower case, as camera-trap software writes it."""
    words = [row[label] for label in ("class", "order", "family", "genus")]
    words += [row["species_epithet"], row["common_name"]]
    key = hashlib.blake2b(";".join(words).encode(), digest_size=8).hexdigest()
    return ";".join([key, *(word.lower() for word in words)])
