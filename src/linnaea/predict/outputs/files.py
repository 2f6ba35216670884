"""Rows joined to what a detector's file says: the answers of each photograph or video, for formats that nest them."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from linnaea.data.copies.bursts import GAP_S
from linnaea.data.frames import is_video, number_of_frame, read_frame_rate
from linnaea.predict.detections import NOT_LISTED, NOT_NAMED, Detection, Detections, Kind, Record, kind_of
from linnaea.predict.inputs import NO_ANIMAL, split_frame
from linnaea.predict.outputs.rows import WHOLE, Row, box_of, by_photograph, finest_name, without_box
from linnaea.predict.predictor import NOTHING
from linnaea.predict.records.decisions import Verdicts
from linnaea.predict.records.reviewed import with_decisions
from linnaea.taxonomy.columns import ANSWER_COLUMNS, REVIEW_COLUMNS

_TAXON_IDS = uuid.UUID("6f1f2c0e-6d5b-5f0e-9d0a-3c1f0b7d5a11")
"""The namespace of our identifiers of taxa."""

HUMAN = "990ae9dd-7a59-4344-afcb-1b7b21368000;mammalia;primates;hominidae;homo;sapiens;human"
"""SpeciesNet's class of people."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The facts that a writer has besides the rows."""

    detections: Detections | None = None
    """The file that the detections came from."""
    zone: tzinfo | None = None
    """The time zone of cameras that write no offset from UTC."""
    deployments: Path | None = None
    """A table of deployments with Camtrap DP's columns; by default each folder of photographs is one."""
    package_info: Path | None = None
    """A JSON file with parts of ``datapackage.json``: title, contributors, project, licenses."""
    sequence_gap_s: float = GAP_S
    """Photographs of one deployment with gaps of at most so many seconds are one event."""
    checklists: tuple[str, ...] = ("inat",)
    """Checklists whose identifiers a Darwin Core Archive states, the first that has the taxon."""
    no_formulas: bool = False
    """Put a quote before the cells of a CSV that a spreadsheet would take for formulas."""
    decisions: Verdicts | None = None
    """What reviewers decided."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """Small JPEGs by file name, for a page of photographs that are not on this machine."""
    calibrated: bool | None = None
    """True if the probabilities are calibrated; ``None`` if it is not known."""
    tell: Callable[[str], None] = field(default=lambda line: None)
    """Called with messages to the person who runs the command."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the tables."""
        return ANSWER_COLUMNS if self.decisions is None else ANSWER_COLUMNS + REVIEW_COLUMNS

    def decided(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Return the rows with the decisions of reviewers."""
        return rows if self.decisions is None else with_decisions(rows, self.decisions)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A detection with its rows, best first; without rows it was not asked about."""

    detection: Detection
    rows: tuple[Row, ...] = ()

    @property
    def guesses(self) -> tuple[Row, ...]:
        """Return the rows that name a taxon."""
        return tuple(row for row in self.rows if row["status"] == "ok")


@dataclass(frozen=True, kw_only=True)
class AnsweredFile:
    """A photograph or video with its answers."""

    name: str
    """As the detector's file states it, or the path."""
    failure: str = ""
    found: tuple[Found, ...] = ()
    has_detector: bool = False
    """True if a detector has seen it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the detector's file says about it."""
    frame_rate: float | None = None
    """Frames per second of a video."""
    frames: tuple[int, ...] = ()
    """The frames of a video that were looked at."""


def iter_files(rows: Iterable[Row], detections: Detections | None) -> Iterator[AnsweredFile]:
    """Yield the answers of each photograph or video, in the order of the rows."""
    parts = ((file_of(name, of_one[0]), of_one) for name, of_one in by_photograph(rows))
    for path, group in groupby(parts, key=lambda part: part[0]):
        answers = [of_one for _, of_one in group]
        record = None if detections is None else detections.record_of(path)
        yield _join_video(path, answers, record) if is_video(path) else _join(path, answers, record)


def file_of(name: str, row: Row) -> str:
    """Return the photograph that a crop ``photo.jpg#3`` belongs to, or the video of a frame ``clip.mp4#t=3.0``."""
    return split_frame(without_box(name, row["bbox"]))[0]


def describe(row: Row) -> str:
    """Return ``id;class;order;family;genus;species;common name`` in lower case, as SpeciesNet writes a class.

    The last part is never empty: without a common name, and above class, it is the scientific name. The identifier is
    made from the whole lineage, so taxa of one name in two kingdoms have two.
    """
    if is_person(row):
        return HUMAN
    lineage = [row[label] for label in ("kingdom", "phylum", "class", "order", "family", "genus", "species_epithet")]
    last = row["common_name"] if any(lineage[2:]) and row["common_name"] else finest_name(row)
    key = uuid.uuid5(_TAXON_IDS, ";".join([*lineage, last]))
    return ";".join([str(key), *(word.replace(";", ",").lower() for word in (*lineage[2:], last))])


def is_person(row: Row) -> bool:
    """Tell whether a row names *Homo sapiens*, or the genus."""
    return row["genus"] == "Homo" and row["species_epithet"] in ("sapiens", "")


def _failure_of(row: Row) -> str:
    """Return why nothing is known about a photograph: it cannot be read, or no detector has seen it."""
    return str(row["reason"]) if row["status"] == "failed" or row["reason"] == NOT_LISTED else ""


def _join(path: str, answers: list[list[Row]], record: Record | None) -> AnsweredFile:
    failed = next(filter(None, (_failure_of(of_one[0]) for of_one in answers)), "")
    facts = {} if record is None else record.facts
    name = path if record is None else record.file
    if record is not None and record.failure:
        failed = record.failure
    found = () if failed else tuple(_found(answers, record, None))
    has_detector = any(of_one[0]["detection_category"] or of_one[0]["reason"] == NO_ANIMAL for of_one in answers)
    has_detector |= record is not None and record.detections is not None
    return AnsweredFile(name=name, failure=failed, found=found, has_detector=has_detector, facts=facts)


def _join_video(path: str, answers: list[list[Row]], record: Record | None) -> AnsweredFile:
    """Return the answers of a video; a frame that cannot be read is left out, unless all of them are."""
    good = [of_one for of_one in answers if not _failure_of(of_one[0])]
    facts = {} if record is None else record.facts
    stated_rate, stated = facts.get("frame_rate"), facts.get("frames_processed")
    is_rate = isinstance(stated_rate, int | float) and isfinite(stated_rate) and stated_rate > 0
    rate = float(stated_rate) if is_rate and stated_rate else read_frame_rate(Path(path))
    found = tuple(_found(good, record, rate)) if good else ()
    listed = [one for one in stated if isinstance(one, int)] if isinstance(stated, list) else None
    frames = sorted({one.detection.frame or 0 for one in found}) if listed is None else listed
    failure = "" if good else answers[0][0]["reason"]
    if record is not None and record.failure:
        failure = record.failure
    return AnsweredFile(
        name=path if record is None else record.file, failure=failure, found=found, has_detector=record is not None,
        facts=facts, frame_rate=rate, frames=tuple(frames),
    )  # fmt: skip


def _found(answers: list[list[Row]], record: Record | None, rate: float | None) -> Iterator[Found]:
    """Yield the detections of a file with their rows; a detection that was not to be named has none."""
    rows_of = {_number_of(of_one[0]): tuple(of_one) for of_one in answers if of_one[0]["reason"] != NO_ANIMAL}
    if record is not None and record.detections is not None:
        for one in record.detections:
            yield Found(detection=one, rows=rows_of.pop(one.number, ()))
        answers = [list(rows) for rows in rows_of.values() if rows[0]["status"] == "ok"]
    for of_one in answers:
        if of_one[0]["reason"] != NO_ANIMAL:
            yield Found(detection=_detection_of(of_one[0], record, rate), rows=tuple(of_one))


def _number_of(row: Row) -> int | str:
    """Return the number of a detection in its photograph, or the name of a photograph or frame as a whole."""
    number = row["file_name"].rpartition("#")[2]
    return int(number) if row["bbox"] and number.isdecimal() else str(row["file_name"])


def _detection_of(row: Row, record: Record | None, rate: float | None) -> Detection:
    """Return the detection that a row was made from.

    A photograph that no detector has seen is one box with confidence 1, or 0 if it shows no organism. Where a detector
    has seen nothing, the box of the whole photograph has the probability of its answer, 0 if there is none.
    """
    number, (video, seconds) = _number_of(row), split_frame(without_box(row["file_name"], row["bbox"]))
    word = row["detection_category"] or "animal"
    kind = kind_of(word)
    if kind is Kind.ANIMAL and row["reason"].endswith(NOT_NAMED):
        kind = Kind.OTHER
    shows_none = row["status"] == "abstained" and row["reason"].startswith(NOTHING)
    no_detector = record is None or record.detections is None
    unseen = 1.0 if no_detector and not shows_none else row["score"] or 0.0
    return Detection(
        number=number if isinstance(number, int) else -1, category="", word=word, kind=kind, box=box_of(row) or WHOLE,
        confidence=unseen if row["detection_confidence"] is None else row["detection_confidence"],
        frame=None if seconds is None else number_of_frame(Path(video), seconds, rate or 0),
    )  # fmt: skip
