"""A whole Camtrap DP 1.0.2: ``datapackage.json``, ``deployments.csv``, ``media.csv`` and ``observations.csv``.

Source: camtrap-dp.tdwg.org. The event-based rows repeat what the media-based rows say, once for each event and taxon.
"""

import json
import mimetypes
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from csv import DictWriter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from linnaea import __version__
from linnaea.counting import agree, count
from linnaea.errors import LinnaeaError
from linnaea.predict.outputs.camtrapdp import OBSERVATION_COLUMNS, iter_observations
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row, finest_name
from linnaea.predict.records.media import (
    Deployment,
    Medium,
    find_events,
    make_deployments,
    place_media,
    read_deployments,
    read_media,
)
from linnaea.storage import atomic_path, read_json, write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS

VERSION = "1.0.2"
PROFILES = f"https://raw.githubusercontent.com/tdwg/camtrap-dp/{VERSION}"

DEPLOYMENTS = (
    "deploymentID", "locationID", "locationName", "latitude", "longitude", "coordinateUncertainty", "deploymentStart",
    "deploymentEnd", "setupBy", "cameraID", "cameraModel", "cameraDelay", "cameraHeight", "cameraDepth", "cameraTilt",
    "cameraHeading", "detectionDistance", "timestampIssues", "baitUse", "featureType", "habitat", "deploymentGroups",
    "deploymentTags", "deploymentComments",
)  # fmt: skip
_SAYS_LITTLE = ("blank", "unclassified", "unknown")
"""Types of observations that an event has only if there are no others."""
MEDIA = (
    "mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic", "fileName", "fileMediatype",
    "exifData", "favorite", "mediaComments",
)  # fmt: skip


def write_camtrap_package(folder: Path, rows: Iterable[Row], context: Context) -> None:
    """Write the package into a folder; ``datapackage.json`` comes last.

    Photographs without a time are left out, since the format asks for one; ``context.tell`` says how many.

    Raises:
        LinnaeaError: no photograph has a time, a deployment has no position, or a file cannot be read or written.
    """
    answers = list(rows)
    observations = list(iter_observations(answers, context))
    media = [one for one in read_media((row["mediaID"] for row in observations), context.zone) if one.moment]
    n_missing = len({row["mediaID"] for row in observations}) - len(media)
    if not media:
        raise LinnaeaError(
            "no photograph states when it was taken (EXIF), which the package asks for" if context.zone else
            "no photograph states a time with its offset from UTC; give --timezone, such as Europe/Berlin"
        )  # fmt: skip
    if n_missing:
        context.tell(
            f"{count(n_missing, 'photograph')} without a time"
            f" {agree(n_missing, 'is', 'are')} not in the package, which asks for one"
        )
    given = [] if context.deployments is None else read_deployments(context.deployments)
    media = find_events(place_media(media, given, context.tell), context.sequence_gap_s)
    places = make_deployments(media, given)
    by_path = {one.path: one for one in media}
    placed = [_place(row, by_path[row["mediaID"]]) for row in observations if row["mediaID"] in by_path]
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / "deployments.csv", DEPLOYMENTS, (one.facts for one in places))
    _write_table(folder / "media.csv", MEDIA, map(_medium_row, media))
    _write_table(
        folder / "observations.csv", OBSERVATION_COLUMNS, [*placed, *_event_rows(placed, media, _lineages_of(answers))]
    )
    about = context.package_info
    stated = {} if about is None else read_json(about, kind="parts of datapackage.json")
    if not stated.keys() >= {"contributors", "project"}:
        context.tell("datapackage.json: contributors and project are placeholders; give --package-info FILE with them")
    content = describe_package(places, media, _taxa_of(answers, placed)) | stated
    write_atomically(folder / "datapackage.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        table = DictWriter(stream, columns, lineterminator="\n", extrasaction="ignore", restval="")
        table.writeheader()
        table.writerows(rows)


def _medium_row(one: Medium) -> dict[str, Any]:
    return {
        "mediaID": one.id, "deploymentID": one.deployment, "timestamp": one.moment, "filePath": one.file,
        "filePublic": "false", "fileName": Path(one.file).name,
        "fileMediatype": mimetypes.guess_type(one.file)[0] or "image/jpeg",
    }  # fmt: skip


def _place(row: Mapping[str, Any], one: Medium) -> dict[str, Any]:
    """Return a media-based observation with the identifiers of its photograph."""
    n_seen = 1 if row.get("bboxX") is not None and row["observationType"] in ("animal", "human", "vehicle") else ""
    return {**row, "mediaID": one.id, "deploymentID": one.deployment, "eventID": one.event, "count": n_seen,
            "eventStart": one.moment, "eventEnd": one.moment}  # fmt: skip


def _lineages_of(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Return the names above each name of the answers, kingdom first."""
    named = {finest_name(row): row for row in rows if row["status"] == "ok"}
    return {name: tuple(row[rank] for rank in RANK_LABELS[:-1] if row[rank] not in ("", name))
            for name, row in named.items()}  # fmt: skip


def _event_rows(
    observations: Sequence[Mapping[str, Any]], media: Sequence[Medium], lineages: Mapping[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Return an event-based observation for each event and what was seen in it."""
    of_event: dict[str, list[Mapping[str, Any]]] = {}
    for row in observations:
        of_event.setdefault(row["eventID"], []).append(row)
    media_of: dict[str, list[Medium]] = {}
    for one in sorted(media, key=lambda one: one.time):
        media_of.setdefault(one.event, []).append(one)
    rows = []
    for event, seen in of_event.items():
        times = media_of[event]
        for number, (of_one, n_seen) in enumerate(_count_each(seen, lineages)):
            surest = max(of_one, key=_certainty)
            rows.append({
                **{key: surest[key] for key in ("classificationMethod", "classifiedBy", "classificationTimestamp",
                                                "classificationProbability", "deploymentID", "observationTags",
                                                "observationType", "scientificName")},
                "observationID": f"{event}-{number}", "eventID": event, "observationLevel": "event",
                "eventStart": times[0].moment, "eventEnd": times[-1].moment, "count": n_seen or "",
            })  # fmt: skip
    return rows


_Seen: TypeAlias = tuple[str, str]
"""The type of an observation, and its scientific name."""


def _count_each(
    seen: Sequence[Mapping[str, Any]], lineages: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[list[Mapping[str, Any]], int]]:
    """Yield the observations of each taxon of an event, with the least number of individuals; 0 without boxes.

    The least number is the largest number of boxes on one photograph. One photograph may name as Felidae the animal
    that another names as Felis catus. So a higher taxon counts only its boxes beyond those of the taxa below it, and is
    left out if there are none. A person's decision is not left out for a model's answer. An event is blank if all of
    its photographs are.
    """
    of_each: dict[_Seen, list[Mapping[str, Any]]] = {}
    for row in seen:
        of_each.setdefault((row["observationType"], row["scientificName"]), []).append(row)
    told = {one: of_one for one, of_one in of_each.items() if one[0] not in _SAYS_LITTLE} or of_each
    by_people = {one for one, rows in told.items() if any(row["classificationMethod"] == "human" for row in rows)}
    below = {one: [low for low in told if _is_above(one, low, lineages) and (low in by_people or one not in by_people)]
             for one in told}  # fmt: skip
    counts: dict[_Seen, int] = {}
    for one in sorted(told, key=lambda one: len(below[one])):  # lowest first
        boxes = Counter(row["mediaID"] for each in (one, *below[one]) for row in told[each] if row["count"])
        counts[one] = max(0, max(boxes.values(), default=0) - sum(counts[low] for low in below[one]))
    yield from ((rows, counts[one]) for one, rows in told.items() if counts[one] or not below[one])


def _is_above(high: _Seen, low: _Seen, lineages: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether an observation is less exact than another: without a name, or with a higher taxon's."""
    return high != low and high[0] == low[0] and (not high[1] or high[1] in lineages.get(low[1], ()))


def _certainty(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Return the key that orders observations of one taxon: a person's first, then the likeliest."""
    return row["classificationMethod"] == "human", float(row["classificationProbability"] or 0)


def _taxa_of(rows: Iterable[Row], observations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the taxa of the observations with their classification."""
    row_of = {finest_name(row): row for row in rows if row["status"] == "ok"}
    taxa = []
    for name in sorted({row["scientificName"] for row in observations} - {""}):
        row = row_of.get(name)
        taxon: dict[str, Any] = {"scientificName": name}
        if row is not None:
            taxon |= {"taxonRank": row["rank"]} if row["rank"] else {}
            taxon |= {rank: row[rank] for rank in RANK_LABELS[:-1] if row[rank]}
            taxon |= {"vernacularNames": {"eng": row["common_name"]}} if row["common_name"] else {}
        taxa.append(taxon)
    return taxa


def describe_package(
    places: Sequence[Deployment], media: Sequence[Medium], taxa: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return ``datapackage.json``; its contributors and project are placeholders."""
    points = [[float(one.facts["longitude"]), float(one.facts["latitude"])] for one in places]
    times = sorted(one.time for one in media)
    table = {"profile": "tabular-data-resource", "format": "csv", "mediatype": "text/csv", "encoding": "utf-8"}
    return {
        "resources": [
            {"name": name, "path": f"{name}.csv", **table, "schema": f"{PROFILES}/{name}-table-schema.json"}
            for name in ("deployments", "media", "observations")
        ],
        "profile": f"{PROFILES}/camtrap-dp-profile.json",
        "name": "camera-trap-records",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, " ".join(sorted(one.id for one in media)))),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "contributors": [{"title": "not stated", "role": "contributor"}],
        "sources": [{"title": "Linnaea", "version": __version__}],
        "project": {
            "title": "not stated", "samplingDesign": "opportunistic", "captureMethod": ["activityDetection"],
            "individualAnimals": False, "observationLevel": ["media", "event"],
        },
        "spatial": {"type": "MultiPoint", "coordinates": points},
        "temporal": {"start": f"{times[0]:%Y-%m-%d}", "end": f"{times[-1]:%Y-%m-%d}"},
        "taxonomic": list(taxa),
    }  # fmt: skip
