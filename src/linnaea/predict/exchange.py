"""Predictions in the formats that camera-trap software reads, and as a page to look at."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from csv import DictWriter
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np

from linnaea import __version__
from linnaea.data.images import ImageError
from linnaea.page import Card, Cards, Page, Section, Text
from linnaea.predict.inputs import NO_ANIMAL, Box, find_input
from linnaea.predict.priors import time_of_photograph
from linnaea.taxonomy.ranks import RANK_LABELS

Row = dict[str, Any]

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of a photograph that no detector has looked at."""

OBSERVATION_COLUMNS = (
    "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
    "observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID",
    "individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth",
    "bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability",
    "observationTags", "observationComments",
)  # fmt: skip
"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""

CARDS_AT_MOST = 2_000
THUMBNAIL = 220
"""Longer side of a photograph on a page, pixels."""


@runtime_checkable
class Writable(Protocol):
    """Standard output, or an open text file."""

    def write(self, text: str, /) -> Any: ...


def _by_photograph(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name, of_one in groupby(rows, key=lambda row: str(row["file_name"])):
        yield name, list(of_one)


def _box(row: Row) -> Box:
    numbers = tuple(float(word) for word in str(row["bbox"]).split())
    return numbers if len(numbers) == 4 else WHOLE


def _file_of(name: str, row: Row) -> str:
    """The picture that a crop ``picture.jpg#3`` is a part of."""
    return name.rpartition("#")[0] if row["bbox"] else name


def write_megadetector(stream: Writable, rows: Iterable[Row]) -> None:
    """MegaDetector's batch format, version 1.6, with our taxa as classifications, best first.

    A photograph that no detector has looked at has one detection, the whole picture, of confidence 1; one in which a
    detector saw no animal has none.
    """
    numbers: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    images = []
    parts = ((_file_of(name, of_one[0]), of_one) for name, of_one in _by_photograph(rows))
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
                name = _name(row)
                number = numbers.setdefault(name, str(len(numbers)))
                descriptions[number] = _description(row)
                scores.append([number, row["score"]])
            seen = of_one[0]["detection_confidence"]
            detection = {
                "category": "1",
                "conf": 1.0 if seen is None else seen,
                "bbox": list(_box(of_one[0])),
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


def _name(row: Row) -> str:
    """The finest name of a row."""
    if row["species"]:
        return str(row["species"])
    ranks = [row[label] for label in reversed(RANK_LABELS[:-1]) if row[label]]
    return str(ranks[0] if ranks else row["common_name"])


def _description(row: Row) -> str:
    """``id;class;order;family;genus;species;common name``, small letters, as camera-trap software has it."""
    words = [row[label] for label in ("class", "order", "family", "genus")]
    words += [row["species_epithet"], row["common_name"]]
    key = hashlib.blake2b(";".join(words).encode(), digest_size=8).hexdigest()
    return ";".join([key, *(word.lower() for word in words)])


def write_camtrapdp(stream: Writable, rows: Iterable[Row]) -> None:
    """``observations.csv`` of Camtrap DP 1.0: the first answer of each photograph or detection.

    ``mediaID`` is the file's name. The event is the moment of the photograph, where its EXIF states one with the offset
    from UTC that the format wants; deployments, and other times, are for the software that knows them.
    """
    table = DictWriter(stream, OBSERVATION_COLUMNS, lineterminator="\n")
    table.writeheader()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, of_one in _by_photograph(rows):
        row = of_one[0]
        answered = row["status"] == "ok"
        is_animal = answered and row["kingdom"] in ("Animalia", "Metazoa")
        kind = "blank" if row["reason"] == NO_ANIMAL else "animal" if is_animal else "unclassified"
        box = dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), _box(row), strict=True)) if row["bbox"] else {}
        taken = time_of_photograph(Path(_file_of(name, row)))
        moment = taken.isoformat() if taken else ""
        table.writerow({
            "observationID": hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
            "mediaID": _file_of(name, row), "eventStart": moment, "eventEnd": moment, "observationLevel": "media",
            "observationType": kind,
            "scientificName": _name(row) if answered else "", **box,
            "classificationMethod": "machine", "classifiedBy": f"linnaea {__version__}",
            "classificationTimestamp": now, "classificationProbability": row["score"] if answered else "",
            "observationComments": row["reason"],
        })  # fmt: skip


def write_contact_sheet(stream: Writable, rows: Iterable[Row]) -> None:
    """A page with every photograph and its answers; the first :data:`CARDS_AT_MOST`, and a line that says so."""
    groups = _by_photograph(rows)
    cards = [_card(name, of_one) for name, of_one in islice(groups, CARDS_AT_MOST)]
    n_more = sum(1 for _ in groups)
    words = f"{len(cards):,} photographs" + (f"; {n_more:,} more are not shown" if n_more else "")
    note = "The percentages are the model's own, among its labels."
    page = Page("Predictions", words, [Section("Photographs", [Text(note), Cards(cards, width=180)])])
    stream.write(page.html())


def _card(name: str, of_one: list[Row]) -> Card:
    lines = [f"{_name(row)} ({row['score']:.0%})" for row in of_one[:3] if row["status"] == "ok"]
    lines = lines or [f"{of_one[0]['status']}: {of_one[0]['reason']}"]
    common = of_one[0]["common_name"]
    return Card(_thumbnail(name, of_one[0]), alt=name, lines=[lines[0], *([common] if common else []), *lines[1:],
                                                              name.rpartition("/")[2]])  # fmt: skip


def _thumbnail(name: str, row: Row) -> bytes:
    """A small JPEG of the photograph; a grey one where it cannot be read."""
    try:
        picture = find_input(name, _box(row) if row["bbox"] else None).load(THUMBNAIL)
    except ImageError:
        picture = np.full((THUMBNAIL * 3 // 4, THUMBNAIL, 3), 200, np.uint8)
    scale = THUMBNAIL / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return bytes(jpeg.tobytes())
