"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""

import hashlib
from collections.abc import Iterable
from csv import DictWriter
from datetime import UTC, datetime
from pathlib import Path

from linnaea import __version__
from linnaea.predict.inputs import NO_ANIMAL
from linnaea.predict.outputs.rows import Row, Writable, box_of, by_photograph, file_of, finest_name
from linnaea.predict.priors import time_of_photograph

OBSERVATION_COLUMNS = (
    "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
    "observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID",
    "individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth",
    "bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability",
    "observationTags", "observationComments",
)  # fmt: skip
"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""


def write_camtrapdp(stream: Writable, rows: Iterable[Row]) -> None:
    """Write ``observations.csv`` of Camtrap DP 1.0: the first answer of each photograph or detection.

    ``mediaID`` is the file's name. The event is the time of the photograph, if its EXIF states one with the UTC offset
    that the format requires. Deployments and other times are left to software that knows them.
    """
    table = DictWriter(stream, OBSERVATION_COLUMNS, lineterminator="\n")
    table.writeheader()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, of_one in by_photograph(rows):
        row = of_one[0]
        answered = row["status"] == "ok"
        is_animal = answered and row["kingdom"] in ("Animalia", "Metazoa")
        kind = "blank" if row["reason"] == NO_ANIMAL else "animal" if is_animal else "unclassified"
        box = dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), box_of(row), strict=True)) if row["bbox"] else {}
        taken = time_of_photograph(Path(file_of(name, row)))
        moment = taken.isoformat() if taken else ""
        table.writerow({
            "observationID": hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
            "mediaID": file_of(name, row), "eventStart": moment, "eventEnd": moment, "observationLevel": "media",
            "observationType": kind,
            "scientificName": finest_name(row) if answered else "", **box,
            "classificationMethod": "machine", "classifiedBy": f"linnaea {__version__}",
            "classificationTimestamp": now, "classificationProbability": row["score"] if answered else "",
            "observationComments": row["reason"],
        })  # fmt: skip
