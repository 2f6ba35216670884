"""The detections of a detector, and the inputs to name that they give.

The records keep everything that the detector stated, so that the files that Linnaea writes can state it again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from linnaea.data.frames import is_video, read_frame_rate, time_of_frame
from linnaea.predict.inputs import (
    NO_ANIMAL,
    Box,
    EmptyPictureError,
    Input,
    crop_input,
    failing_input,
    file_input,
    frame_input,
)

NOT_NAMED = "not to be named"
"""The end of the reason of a detected person, vehicle, or thing of a category that was not asked for."""
NOT_LISTED = "not in the detector's file"
"""The reason of a photograph in the folder that the file does not mention."""

MEGADETECTOR_CATEGORIES = {"1": "animal", "2": "person", "3": "vehicle"}
"""The categories of a file that states none."""
PEOPLE = {"person", "persons", "people", "human", "humans", "homo sapiens"}
VEHICLES = {"vehicle", "vehicles", "bicycle", "boat", "bus", "car", "motorcycle", "train", "truck"}
"""With the vehicles of COCO, whose words many detectors use."""
EMPTY = {"empty", "blank", "nothing", "background"}

WHOLE_IMAGE = "whole_image_classification"
"""SpeciesNet's category of a photograph that no detector has seen."""

USUAL_THRESHOLD = 0.2
"""MegaDetector 5's; used where a file states none and its detector is not known."""
THRESHOLDS = {r"(md|megadetector)[_-]?v[234](?!\d)": 0.8, r"redwood": 0.3}
"""Thresholds of detectors that are known by the name of their file, as in MegaDetector's ``run_detector``."""

Form: TypeAlias = Literal["megadetector", "speciesnet", "instances"]


class Kind(StrEnum):
    """The kinds of detections."""

    ANIMAL = "animal"
    """Something to name."""
    HUMAN = "human"
    VEHICLE = "vehicle"
    OTHER = "other"
    """A category that ``--animal-categories`` leaves out."""
    NOTHING = "nothing"
    """The detector's word for an empty picture."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A box in a photograph or in a frame of a video."""

    number: int
    """Its place in the detector's list."""
    category: str
    """The number of the category, as text."""
    word: str
    """The name of the category, as the detector writes it."""
    kind: Kind
    confidence: float
    box: Box
    """Clipped to the picture."""
    frame: int | None = None
    """The number of the frame, in a video."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Everything that the file says about the detection."""


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A detection that cannot be answered."""

    why: str
    confidence: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a file says about one photograph or video."""

    file: str
    """The name as the file states it."""
    path: Path | None
    """The file of the photograph; ``None`` if the name is not a path inside the folder."""
    detections: tuple[Detection, ...] | None = None
    """``None`` if no detector has seen the photograph."""
    failure: str = ""
    """Why the detector could not read it, word for word."""
    unusable: tuple[Unusable, ...] = ()
    """Detections without an area inside the picture, a category or a confidence."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the file says about it."""
    listed: bool = True
    """False for a photograph in the folder that the file does not mention."""
    whole: Input | None = None
    """The photograph as an input, if it is not a file of its own: a member of a tar, an address."""

    @property
    def name(self) -> str:
        """Return the name of its input."""
        return self.file if self.path is None else str(self.path)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """A file of detections, or a list of photographs with their facts."""

    form: Form
    records: tuple[Record, ...]
    categories: Mapping[str, str] = field(default_factory=lambda: dict(MEGADETECTOR_CATEGORIES))
    """Number and name of each category."""
    info: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    """Other parts of the file, such as the categories of an earlier classifier."""
    n_files: int = 0
    """Files in the folder of the photographs."""

    @property
    def threshold(self) -> float:
        """Return the confidence from which the detector's authors count a detection.

        The file states it (``typical_detection_threshold``), or the name of its detector does.
        """
        metadata = self.info.get("detector_metadata")
        stated = metadata.get("typical_detection_threshold") if isinstance(metadata, dict) else None
        if isinstance(stated, int | float) and 0 <= stated <= 1:
            return float(stated)
        detector = str(self.info.get("detector") or "").lower()
        return next((value for name, value in THRESHOLDS.items() if re.search(name, detector)), USUAL_THRESHOLD)

    def inputs(self, threshold: float | None = None, *, whole_where_empty: bool = False) -> list[Input]:
        """Return what is detected with at least ``threshold``: animals as crops to be named, others with a reason.

        A photograph in which nothing is detected, or that the file does not mention, raises :class:`EmptyPictureError`
        when it is loaded, or is one input as a whole with ``whole_where_empty``. A photograph that failed in the
        detector fails here too.
        """
        least = self.threshold if threshold is None else threshold
        return [one for record in self.records for one in _inputs_of(record, least, whole_where_empty)]

    def record_of(self, path: str) -> Record | None:
        """Return the record of a photograph by its path; ``None`` if there is none."""
        return self._records.get(path)

    @cached_property
    def _records(self) -> dict[str, Record]:
        return {record.name: record for record in self.records}

    def only(self, path: Path) -> "Detections":
        """Return the detections of one photograph."""
        return replace(self, records=tuple(record for record in self.records if record.path == path))

    @property
    def n_unlisted(self) -> int:
        """Return the number of photographs in the folder that the file does not mention."""
        return sum(not record.listed for record in self.records)

    @property
    def n_unusable(self) -> int:
        """Return the number of detections without an area, a category or a confidence; they are left out."""
        return sum(len(record.unusable) for record in self.records)


def kind_of(word: str) -> Kind:
    """Return the kind of a category by its name: a person, a vehicle, nothing, or else an animal to name."""
    key = word.strip().lower()
    if key in PEOPLE:
        return Kind.HUMAN
    if key in VEHICLES:
        return Kind.VEHICLE
    return Kind.NOTHING if key in EMPTY else Kind.ANIMAL


def _inputs_of(record: Record, threshold: float, whole_where_empty: bool) -> Iterator[Input]:
    name, path = record.name, record.path
    if record.failure or (path is None and record.whole is None):
        yield failing_input(name, record.failure if path is None else f"no detections: {record.failure}", path)
        return
    whole = record.whole or replace(file_input(Path(name)), place=_place_of(record.facts))
    if not record.listed:
        named = whole_where_empty and not is_video(name)
        yield whole if named else failing_input(name, NOT_LISTED, path, EmptyPictureError)
        return
    if record.detections is None:
        yield whole
        return
    seen = [one for one in record.detections if one.confidence >= threshold and one.kind is not Kind.NOTHING]
    for one in seen:
        yield _input_of(record, one, whole)
    if seen:
        return
    unusable = [one.why for one in record.unusable if one.confidence >= threshold]
    if unusable:
        yield failing_input(name, unusable[0], path)
    elif whole_where_empty and not is_video(name):
        yield whole
    else:
        yield failing_input(name, NO_ANIMAL, path, EmptyPictureError)


def _input_of(record: Record, one: Detection, whole: Input) -> Input:
    if is_video(record.name):
        whole = _frame_of(record, Path(record.name), one)
    crop = crop_input(whole, one.number, one.box)
    if one.kind is not Kind.ANIMAL:
        crop = replace(failing_input(crop.name, f"{one.word}: {NOT_NAMED}", crop.path, EmptyPictureError),
                       box=one.box, detection=one.number)  # fmt: skip
    return replace(crop, detection_confidence=one.confidence, category=one.word)


def _frame_of(record: Record, path: Path, one: Detection) -> Input:
    """Return the frame of a video that a detection is in."""
    rate = record.facts.get("frame_rate")
    per_second = float(rate) if isinstance(rate, int | float) and rate > 0 else read_frame_rate(path)
    if one.frame is None or per_second <= 0:
        why = "the file states no frame_number" if one.frame is None else "not a readable video"
        return failing_input(f"{path}#t=0", why, path)
    return frame_input(path, time_of_frame(path, one.frame, per_second))


def _place_of(facts: Mapping[str, Any]) -> tuple[float, float] | None:
    lat, lon = facts.get("latitude"), facts.get("longitude")
    if isinstance(lat, int | float) and isinstance(lon, int | float) and abs(lat) <= 90 and abs(lon) <= 180:
        return float(lat), float(lon)
    return None
