"""A Darwin Core Archive of occurrences: ``occurrence.txt``, ``multimedia.txt``, ``meta.xml`` and ``eml.xml`` in a zip.

Source: dwc.tdwg.org/text. The core is the occurrence, the extension GBIF's Multimedia.
"""

import io
import mimetypes
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from csv import DictWriter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import polars as pl

from linnaea import __version__
from linnaea.counting import agree, count
from linnaea.predict.outputs.camtrapdp import iter_observations
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row, by_photograph
from linnaea.predict.records.media import Medium, find_events, place_media, read_deployments, read_media
from linnaea.predict.records.reviewed import is_decided, without_empty_boxes
from linnaea.taxonomy.checklists.rows import ASKED, find_identifiers
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import RANK_LABELS

DWC = "http://rs.tdwg.org/dwc/terms/"
DC = "http://purl.org/dc/terms/"
ROW_TYPES = {"occurrence": f"{DWC}Occurrence", "multimedia": "http://rs.gbif.org/terms/1.0/Multimedia"}

OCCURRENCE = (
    "occurrenceID", "basisOfRecord", "occurrenceStatus", "eventID", "eventDate", "locationID", "decimalLatitude",
    "decimalLongitude", "geodeticDatum", "scientificNameID", "scientificName", "taxonRank", *RANK_LABELS[:-1],
    "specificEpithet", "vernacularName", "identifiedBy", "dateIdentified", "identificationVerificationStatus",
    "identificationRemarks", "associatedMedia",
)  # fmt: skip
MULTIMEDIA = ("occurrenceID", "type", "format", "identifier", "created")
TERMS = {"occurrence": DWC, "multimedia": DC}


def write_darwin_core(archive: Path, rows: Iterable[Row], context: Context) -> None:
    """Write the archive: an occurrence for each photograph or detection whose first answer is a scientific name.

    People are left out. A photograph without a time or a position is an occurrence without one.
    """
    answers = {name: of_one[0] for name, of_one in by_photograph(list(without_empty_boxes(rows)))}
    seen = list(zip(answers.values(), iter_observations(iter(answers.values()), context), strict=True))
    named = [(row, one) for row, one in seen if one["scientificName"] and one["observationType"] != "human"]
    if n_others := len(seen) - len(named):
        context.tell(
            f"{count(n_others, 'answer')} without a scientific name, or of"
            f" people, {agree(n_others, 'is no occurrence', 'are not occurrences')}"
        )
    media = {one.path: one for one in _read_media(named, context)}
    identifiers = _find_identifiers(named, context.checklists)
    occurrences = [_occurrence(row, one, media[one["mediaID"]]) | {"scientificNameID": identifier}
                   for (row, one), identifier in zip(named, identifiers, strict=True)]  # fmt: skip
    pictures = [_picture(one["occurrenceID"], media[seen["mediaID"]])
                for one, (_, seen) in zip(occurrences, named, strict=True)]  # fmt: skip
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("occurrence.txt", _table(OCCURRENCE, occurrences))
        target.writestr("multimedia.txt", _table(MULTIMEDIA, pictures))
        target.writestr("meta.xml", _meta())
        target.writestr("eml.xml", _eml(len(named), sum(is_decided(row) for row, _ in named)))


def _find_identifiers(named: Sequence[tuple[Row, Mapping[str, Any]]], checklists: Sequence[str]) -> list[str]:
    """Return the identifier of each taxon in the first checklist that has it, else ``""``."""
    asked = pl.DataFrame(
        {"name": [one["scientificName"] for _, one in named], "rank": [row["rank"] for row, _ in named],
         "kingdom": [row["kingdom"] for row, _ in named]},
        schema=dict.fromkeys(ASKED, pl.String),
    )  # fmt: skip
    found = [""] * len(named)
    for name in checklists:
        more = find_identifiers(load_checklist(name), asked)
        found = [mine or other for mine, other in zip(found, more, strict=True)]
    return found


def _read_media(named: Sequence[tuple[Row, Mapping[str, Any]]], context: Context) -> list[Medium]:
    given = [] if context.deployments is None else read_deployments(context.deployments)
    media = place_media(read_media((one["mediaID"] for _, one in named), context.zone), given, context.tell)
    return find_events([one.at(given) for one in media], context.sequence_gap_s)


def _occurrence(row: Row, seen: Mapping[str, Any], medium: Medium) -> dict[str, Any]:
    position = medium.position
    return {
        "occurrenceID": seen["observationID"], "basisOfRecord": "MachineObservation", "occurrenceStatus": "present",
        "eventID": medium.event, "eventDate": medium.moment or medium.clock, "locationID": medium.deployment,
        **({} if position is None else {"decimalLatitude": position[0], "decimalLongitude": position[1],
                                        "geodeticDatum": "WGS84"}),
        "scientificName": seen["scientificName"], "taxonRank": row["rank"],
        **{rank: row[rank] for rank in RANK_LABELS[:-1]}, "specificEpithet": row["species_epithet"],
        "vernacularName": row["common_name"], **_identification(row), "associatedMedia": medium.file,
    }  # fmt: skip


def _identification(row: Row) -> dict[str, str]:
    """Return who named the organism, and whether reviewers agree."""
    score = f", probability {row['score']:.3g}" if row["score"] is not None else ""
    if not is_decided(row):
        note = f"; {row['reason']}" if row.get("review") else ""
        return {"identifiedBy": f"linnaea {__version__}",
                "identificationVerificationStatus": row.get("review") or "unverified",
                "identificationRemarks": f"named by linnaea {__version__}{score}{note}"}  # fmt: skip
    said = row["reason"] or f"also named by linnaea {__version__}{score}"
    return {"identifiedBy": row["reviewed_by"], "dateIdentified": row["reviewed_at"],
            "identificationVerificationStatus": "verified",
            "identificationRemarks": f"{row['review']}; {said}"}  # fmt: skip


def _picture(occurrence: str, medium: Medium) -> dict[str, Any]:
    kind = mimetypes.guess_type(medium.file)[0] or "image/jpeg"
    return {"occurrenceID": occurrence, "type": "MovingImage" if kind.startswith("video/") else "StillImage",
            "format": kind, "identifier": medium.file, "created": medium.moment or medium.clock}  # fmt: skip


def _table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a tab-separated table; the format has no quotes, so tabs and line ends in cells become spaces."""
    stream = io.StringIO()
    table = DictWriter(stream, columns, delimiter="\t", lineterminator="\n", quoting=3, quotechar=None, restval="")
    table.writeheader()
    table.writerows({key: " ".join(str(cell).split()) for key, cell in row.items()} for row in rows)
    return stream.getvalue()


def _meta() -> str:
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">',
        _part("core", "occurrence", OCCURRENCE), _part("extension", "multimedia", MULTIMEDIA), "</archive>", "",
    ])  # fmt: skip


def _part(element: str, name: str, columns: Sequence[str]) -> str:
    key = "id" if element == "core" else "coreid"
    fields = [f'    <field index="{number}" term={quoteattr(TERMS[name] + column)}/>'
              for number, column in enumerate(columns) if element == "core" or number]  # fmt: skip
    head = (f'  <{element} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" '
            f'ignoreHeaderLines="1" rowType={quoteattr(ROW_TYPES[name])}>')  # fmt: skip
    files = f"    <files><location>{name}.txt</location></files>"
    return "\n".join([head, files, f'    <{key} index="0"/>', *fields, f"  </{element}>"])


def _eml(n_occurrences: int, n_verified: int) -> str:
    """Return a stub of the metadata, for its owner to fill in."""
    now = datetime.now(UTC)
    verified = f"{n_verified:,} of {n_occurrences:,} identifications have" if n_verified else "no identification has"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<eml:eml xmlns:eml="eml://ecoinformatics.org/eml-2.1.1" packageId="{uuid.uuid4()}" system="http://gbif.org"
  scope="system" xml:lang="en">
  <dataset>
    <title xml:lang="en">Occurrences named by {escape(f"linnaea {__version__}")} (title not stated)</title>
    <creator><organizationName>not stated</organizationName></creator>
    <metadataProvider><organizationName>not stated</organizationName></metadataProvider>
    <pubDate>{now:%Y-%m-%d}</pubDate>
    <language>en</language>
    <abstract><para>Photographs named by a machine; {verified} been verified by a person.</para></abstract>
    <contact><organizationName>not stated</organizationName></contact>
  </dataset>
</eml:eml>
"""
