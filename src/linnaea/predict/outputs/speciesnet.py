"""SpeciesNet's ``predictions``: format 20261015 (since 5.0.6), and the one before (README of google/cameratrapai)."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from linnaea import __version__
from linnaea.predict.detections import NOT_LISTED, WHOLE_IMAGE, Kind
from linnaea.predict.outputs.files import HUMAN, AnsweredFile, Context, Found, describe, iter_files
from linnaea.predict.outputs.rows import Row, Writable, probability_of

FORMAT_VERSION = "20261015"
ANIMAL = "1f689929-883d-4dae-958c-3d57ab5b6c16;;;;;;animal"
BLANK = "f1856211-cfb7-4a5b-9158-c0f72fd09ee6;;;;;;blank"
VEHICLE = "e2895ed5-780b-48f6-8a11-9e27cb594511;;;;;;vehicle"
UNKNOWN = "f2efdae9-efb8-48fb-8a91-eccf79ab4ffb;" + ";".join(["no cv result"] * 6)
RAW_CLASSES = 2
"""The classes that SpeciesNet lists for each detection since 5.0.6; before it listed five."""
RAW_CLASSES_LEGACY = 5

NUMBERS = {Kind.ANIMAL: "1", Kind.HUMAN: "2", Kind.VEHICLE: "3"}
BY_DETECTOR = {Kind.ANIMAL: ANIMAL, Kind.HUMAN: HUMAN, Kind.VEHICLE: VEHICLE}

KEPT = ("datetime", "width", "height", "latitude", "longitude")
MODEL = f"linnaea {__version__}"


def write_speciesnet(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write format 20261015: each detection has its answer and the first two classes."""
    predictions = [_prediction(one) for one in iter_files(rows, context.detections)]
    content = {"info": {"format_version": FORMAT_VERSION}, "predictions": predictions}
    stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_speciesnet_legacy(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write the format of SpeciesNet before 5.0.6: one answer per photograph."""
    predictions = [_prediction_legacy(one) for one in iter_files(rows, context.detections)]
    stream.write(json.dumps({"predictions": predictions}, indent=1, ensure_ascii=False) + "\n")


def _prediction(one: AnsweredFile) -> dict[str, Any]:
    if one.failure:
        return _head(one) | {"model_version": MODEL}
    found = sorted(one.found, key=lambda found: -found.detection.confidence)
    return _head(one) | {
        "detections": [_detection(each, one) | _answer(each) for each in found],
        "model_version": MODEL,
    }


def _prediction_legacy(one: AnsweredFile) -> dict[str, Any]:
    if one.failure:
        return _head(one) | {"model_version": MODEL}
    found = sorted(one.found, key=lambda found: -found.detection.confidence)
    best = max(found, key=_importance, default=None)
    prediction, score, source = _class_of(best) if best is not None and best.rows else (BLANK, 1.0, "detector")
    boxes = [_detection(each, one) for each in found] if one.has_detector else []
    return _head(one) | {
        "classifications": _classes(best.guesses[:RAW_CLASSES_LEGACY] if best is not None else ()),
        "detections": boxes, "prediction": prediction, "prediction_score": score, "prediction_source": source,
        "model_version": MODEL,
    }  # fmt: skip


def _importance(found: Found) -> tuple[bool, bool, float]:
    """Return the key that chooses the detection of a photograph: a named animal, a detection at all, the surest."""
    return bool(found.guesses), bool(found.rows), found.detection.confidence


def _head(one: AnsweredFile) -> dict[str, Any]:
    head: dict[str, Any] = {"filepath": one.name}
    if one.failure:
        step = "DETECTOR" if one.failure == NOT_LISTED else "CLASSIFIER"
        head |= {"failures": one.facts.get("failures") or [step], "reason": one.failure}
    return head | {key: one.facts[key] for key in KEPT if key in one.facts} | read_region(one.facts)


def read_region(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return ``country`` (ISO 3166-1, three capital letters) and ``admin1_region`` (two), if they are such codes."""
    country = str(facts.get("country") or "").strip().upper()
    region = str(facts.get("admin1_region") or "").strip().upper().rpartition("-")[2]
    if len(country) != 3 or not country.isalpha():
        return {}
    return {"country": country} | ({"admin1_region": region} if len(region) == 2 and region.isalnum() else {})


def _detection(found: Found, file: AnsweredFile) -> dict[str, Any]:
    one = found.detection
    number, label = NUMBERS.get(one.kind, one.category or "4"), one.kind.value
    if one.kind not in NUMBERS:
        label = one.word
    if not file.has_detector:
        number, label = "0", WHOLE_IMAGE
    detection = {"category": number, "label": label, "conf": float(one.confidence), "bbox": [float(x) for x in one.box]}
    return detection if one.frame is None else detection | {"frame_number": one.frame}


def _answer(found: Found) -> dict[str, Any]:
    if not found.rows:
        return {}
    name, score, source = _class_of(found)
    answer = {"processed_classification": {"class": name, "score": score, "source": source}}
    return ({"raw_classifications": _classes(found.guesses[:RAW_CLASSES])} if found.guesses else {}) | answer


def _class_of(found: Found) -> tuple[str, float, str]:
    """Return the class of a detection, its score and who says so."""
    if found.guesses:
        return describe(found.guesses[0]), probability_of(found.guesses[0]), "classifier"
    seen = bool(found.rows[0]["detection_category"])
    known = BY_DETECTOR.get(found.detection.kind) if seen else None
    return known or UNKNOWN, float(found.detection.confidence) if known else 0.0, "detector" if known else "classifier"


def _classes(rows: Iterable[Row]) -> dict[str, Any]:
    listed = tuple(rows)
    return {"classes": [describe(row) for row in listed], "scores": [probability_of(row) for row in listed]}
