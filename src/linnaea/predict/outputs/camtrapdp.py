"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from csv import DictWriter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from linnaea import __version__
from linnaea.data.exif import read_taken
from linnaea.data.sources.folder import find_in_checklist
from linnaea.errors import UsageError
from linnaea.predict.detections import NOT_NAMED, Kind, kind_of
from linnaea.predict.inputs import NO_ANIMAL
from linnaea.predict.outputs.files import Context, file_of, is_person
from linnaea.predict.outputs.rows import Row, Writable, box_of, by_photograph, finest_name, probability_of
from linnaea.predict.records.reviewed import CANNOT_TELL, is_decided, without_empty_boxes
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

OBSERVATION_COLUMNS = (
    "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
    "observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID",
    "individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth",
    "bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability",
    "observationTags", "observationComments",
)  # fmt: skip
"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""

ANIMALS = ("Animalia", "Metazoa")
PERSON = "Homo sapiens"


def write_camtrapdp(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write ``observations.csv`` of Camtrap DP 1.0: the first answer of each photograph or detection.

    ``mediaID`` is the file's name. The event is the time of the photograph, if its EXIF states one with the UTC offset
    that the format requires, or if the cameras' time zone is given. Deployments are left to software that knows them,
    or to a whole package (:mod:`linnaea.predict.records.camtrap_package`).
    """
    table = DictWriter(stream, OBSERVATION_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(iter_observations(rows, context))


def iter_observations(rows: Iterable[Row], context: Context) -> Iterator[dict[str, Any]]:
    """Yield a media-based observation for each photograph or detection; see :func:`write_camtrapdp`."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kingdoms, notes = _Kingdoms(), Counter[str]()
    detector = "" if context.detections is None else str(context.detections.info.get("detector") or "a detector")
    for name, of_one in by_photograph(without_empty_boxes(rows)):
        row = of_one[0]
        seen = _observe(row, kingdoms)
        box = dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), box_of(row) or (), strict=False))
        moment, note = moment_of(Path(file_of(name, row)), context.zone)
        notes[note] += 1
        yield {
            "observationID": hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
            "mediaID": file_of(name, row), "eventStart": moment, "eventEnd": moment, "observationLevel": "media",
            "observationType": seen.kind, "scientificName": seen.name, **box,
            **_classification(row, seen, detector, now),
            "observationTags": seen.tag,
            "observationComments": "; ".join(part for part in (row["reason"], note) if part),
        }  # fmt: skip
    for note, n_times in notes.items():
        if note:
            context.tell(f"{n_times:,} times: {note}")


def _classification(row: Row, seen: "_Observation", detector: str, now: str) -> dict[str, Any]:
    """Return who says so: the reviewers, else the detector or the model. A person gives no probability."""
    if is_decided(row):
        return {"classificationMethod": "human", "classifiedBy": row["reviewed_by"],
                "classificationTimestamp": row["reviewed_at"], "classificationProbability": ""}  # fmt: skip
    by = detector if detector and seen.by_detector else f"linnaea {__version__}"
    return {"classificationMethod": "machine", "classifiedBy": by, "classificationTimestamp": now,
            "classificationProbability": seen.probability}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Observation:
    """What is on a photograph or in a box, in the words of Camtrap DP."""

    kind: str
    name: str = ""
    probability: float | str = ""
    tag: str = ""
    """A label that is not a scientific name."""
    by_detector: bool = False


def _observe(row: Row, kingdoms: "_Kingdoms") -> _Observation:
    """Return the observation of a row: the answer's if there is one, else the detector's."""
    word, seen = str(row["detection_category"]), row["detection_confidence"]
    kind = kind_of(word) if word else None
    if row["status"] == "ok":
        return _named(row, kingdoms)
    if row["status"] == "failed":
        return _Observation(kind="unclassified")
    if row["reason"] == NO_ANIMAL:
        return _Observation(kind="blank")
    if row["reason"] == CANNOT_TELL:
        return _Observation(kind="unknown")
    if kind is None or (kind is Kind.ANIMAL and row["reason"].endswith(NOT_NAMED)):
        return _Observation(kind="unclassified")
    name = PERSON if kind is Kind.HUMAN else ""
    return _Observation(kind=kind.value, name=name, probability="" if seen is None else seen, by_detector=True)


def _named(row: Row, kingdoms: "_Kingdoms") -> _Observation:
    name = finest_name(row) if any(row[label] for label in RANK_LABELS[:-1]) or row["species"] else ""
    tag = "" if name else f"label:{row['common_name'].replace('|', '/')}"
    if is_person(row):
        kind = "human"
    elif kingdom := row["kingdom"] or kingdoms.of(name):
        kind = "animal" if kingdom in ANIMALS else "unclassified"
    else:
        kind = "animal" if row["detection_category"] else "unclassified"
    return _Observation(kind=kind, name=name, probability=probability_of(row), tag=tag)


class _Kingdoms:
    """The kingdoms of labels that come without a lineage, from the embedded checklist."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {"": ""}

    def of(self, name: str) -> str:
        """Return the kingdom of a scientific name; ``""`` if it is not known or taxa of two kingdoms have it."""
        if name not in self._known:
            kingdoms = {taxon[Rank.KINGDOM] for taxon in find_in_checklist([name]).get(name, [])}
            self._known[name] = kingdoms.pop() if len(kingdoms) == 1 else ""
        return self._known[name]


def moment_of(path: Path, zone: tzinfo | None) -> tuple[str, str]:
    """Return the time of a photograph with its UTC offset, and a note where the clock's time is not sure.

    A time without an offset is read in ``zone``. An hour that occurs twice is read as its first occurrence, and an hour
    that does not exist with the offset before the change.
    """
    taken = read_taken(path)
    if taken.moment is not None or zone is None:
        return ("" if taken.moment is None else taken.moment.isoformat(timespec="seconds")), ""
    clock = taken.clock
    if clock is None:
        return "", ""
    first, second = (clock.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset() or timedelta(), second.utcoffset() or timedelta()
    note = ""
    if before != after:
        what = (
            "occurs twice; the first is written" if before > after else "does not exist; the offset before is written"
        )
        note = f"{clock:%Y-%m-%d %H:%M} {what} ({zone})"
    return first.isoformat(timespec="seconds"), note


def parse_zone(text: str) -> tzinfo:
    """Return the time zone of ``Europe/Berlin`` or ``+01:00``.

    Raises:
        UsageError: there is no such zone.
    """
    if offset := re.fullmatch(r"([+-])(\d\d):([0-5]\d)", text):
        minutes = int(offset[2]) * 60 + int(offset[3])
        if minutes <= 14 * 60:
            return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"--timezone {text}: write a zone such as Europe/Berlin, or an offset such as +01:00"
        ) from error
