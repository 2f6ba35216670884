"""Whole packages of records: valid by the official profile and readers, with what was seen, where and when."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from answered import FOX, MAMMAL, answer
from packaged import BERLIN, START, photograph, validate, validate_profile
from PIL import Image

from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.detection_files import open_detections
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.records.media import Deployment, Medium, find_events, place_media
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon


def box(category: str = "1", conf: float = 0.9) -> dict[str, Any]:
    return {"category": category, "conf": conf, "bbox": [0.1, 0.1, 0.5, 0.5]}


@pytest.fixture
def season(tmp_path: Path) -> Detections:
    """Two cameras: a fox in two shots, then a walker; nothing, and a photograph without a time."""
    seen = {"north/a.jpg": (0, [box(), box(conf=0.8)]), "north/b.jpg": (20, [box()]), "north/c.jpg": (600, [box("2")]),
            "south/d.jpg": (10, [])}  # fmt: skip
    for name, (after_s, _) in seen.items():
        photograph(tmp_path / "card" / name, after_s)
    Image.new("RGB", (40, 30)).save(tmp_path / "card/south/e.jpg")
    images = [{"file": name, "detections": found} for name, (_, found) in seen.items()]
    images.append({"file": "south/e.jpg", "detections": [box()]})
    path = tmp_path / "md.json"
    path.write_text(json.dumps({"info": {"detector": "md_v5a.0.0.pt"}, "images": images}))
    return open_detections(path, tmp_path / "card")


def write(form: str, output: Path, detections: Detections, **context: Any) -> list[str]:
    """Write a package, and return what was said."""
    told: list[str] = []
    rows = answer(detections.inputs(), FOX)
    write_rows(output, form, rows, Context(detections=detections, zone=BERLIN, tell=told.append, **context))
    return told


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return [*csv.DictReader(stream)]


def test_a_camtrap_package_is_valid_and_says_what_was_seen(season: Detections, tmp_path: Path) -> None:
    told = write("camtrapdp-package", tmp_path / "package", season)
    assert validate(tmp_path / "package") == []
    assert validate_profile(tmp_path / "package") == []
    assert any("1 photograph without a time" in line for line in told)
    assert any("placeholders" in line for line in told)
    north, south = table(tmp_path / "package/deployments.csv")
    assert (north["deploymentID"], south["deploymentID"]) == ("north", "south")
    assert (north["latitude"], north["longitude"]) == ("52.500000", "13.400000")
    assert north["deploymentStart"] == "2024-05-01T12:00:00+02:00"
    assert north["cameraModel"] == "Drawn Trap 1"
    media = table(tmp_path / "package/media.csv")
    assert [one["filePath"] for one in media] == ["north/a.jpg", "north/b.jpg", "north/c.jpg", "south/d.jpg"]
    observations = table(tmp_path / "package/observations.csv")
    of_media = [row for row in observations if row["observationLevel"] == "media"]
    assert [row["observationType"] for row in of_media] == ["animal", "animal", "animal", "human", "blank"]
    events = [(row["observationType"], row["scientificName"], row["count"], row["eventStart"], row["eventEnd"])
              for row in observations if row["observationLevel"] == "event"]  # fmt: skip
    assert events == [
        ("animal", "Vulpes vulpes", "2", "2024-05-01T12:00:00+02:00", "2024-05-01T12:00:20+02:00"),
        ("human", "Homo sapiens", "1", "2024-05-01T12:10:00+02:00", "2024-05-01T12:10:00+02:00"),
        ("blank", "", "", "2024-05-01T12:00:10+02:00", "2024-05-01T12:00:10+02:00"),
    ]
    content = json.loads((tmp_path / "package/datapackage.json").read_text())
    assert content["temporal"] == {"start": "2024-05-01", "end": "2024-05-01"}
    fox = next(taxon for taxon in content["taxonomic"] if taxon["scientificName"] == "Vulpes vulpes")
    assert (fox["family"], fox["taxonRank"], fox["vernacularNames"]) == ("Canidae", "species", {"eng": "Red Fox"})


CARNIVORE, CAT = FOX.at(Rank.ORDER), replace(FOX, lineage=(*FOX.lineage[:4], "Felidae", "Felis", "catus"))


@pytest.mark.parametrize(
    ("shots", "expected"),
    [
        ([[FOX], [CARNIVORE], [None]], [("Vulpes vulpes", "1")]),
        ([[CARNIVORE], [FOX, None]], [("Vulpes vulpes", "1"), ("", "1")]),
        ([[FOX, CARNIVORE], [FOX]], [("Vulpes vulpes", "1"), ("Carnivora", "1")]),
        ([[CARNIVORE, CARNIVORE], [FOX], [CAT]], [("Vulpes vulpes", "1"), ("Felis catus", "1")]),
        ([[CARNIVORE, CARNIVORE, MAMMAL], [FOX]], [("Carnivora", "1"), ("Mammalia", "1"), ("Vulpes vulpes", "1")]),
        ([[CARNIVORE], [MAMMAL]], [("Carnivora", "1")]),
    ],
)
def test_a_less_exact_answer_of_an_event_is_no_further_animal(
    shots: list[list[Taxon | None]], expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    names = [f"north/{number}.jpg" for number in range(len(shots))]
    for number, name in enumerate(names):
        photograph(tmp_path / "card" / name, 10 * number)
    images = [{"file": name, "detections": [box() for _ in seen]} for name, seen in zip(names, shots, strict=True)]
    (tmp_path / "md.json").write_text(json.dumps({"images": images}))
    inputs = open_detections(tmp_path / "md.json", tmp_path / "card").inputs()
    taxa = [taxon for seen in shots for taxon in seen]
    rows = [row for one, taxon in zip(inputs, taxa, strict=True) for row in answer([one], *([taxon] if taxon else []))]
    write_rows(tmp_path / "package", "camtrapdp-package", rows, Context(zone=BERLIN))
    assert validate(tmp_path / "package") == []
    events = [(row["scientificName"], row["count"]) for row in table(tmp_path / "package/observations.csv")
              if row["observationLevel"] == "event"]  # fmt: skip
    assert events == expected


def test_deployments_and_project_may_be_stated(season: Detections, tmp_path: Path) -> None:
    (tmp_path / "deployments.csv").write_text(
        "deploymentID,locationName,latitude,longitude,deploymentStart,deploymentEnd,habitat\n"
        "D1,North,50.5,10.5,2024-04-01T00:00:00+02:00,2024-06-01T00:00:00+02:00,beech\n"
        "D0,North,50.5,10.5,2023-04-01T00:00:00+02:00,2023-06-01T00:00:00+02:00,beech\n"
        "D2,south,50.6,10.6,,,oak\n"
    )
    about = {"title": "Harz", "project": {"title": "Harz", "samplingDesign": "simpleRandom", "captureMethod":
             ["activityDetection"], "individualAnimals": False, "observationLevel": ["media", "event"]},
             "contributors": [{"title": "A. Person", "role": "contact"}]}  # fmt: skip
    (tmp_path / "about.json").write_text(json.dumps(about))
    told = write("camtrapdp-package", tmp_path / "package", season, deployments=tmp_path / "deployments.csv",
                 package_info=tmp_path / "about.json")  # fmt: skip
    assert not any("placeholders" in line for line in told)
    assert validate(tmp_path / "package") == []
    first, second = table(tmp_path / "package/deployments.csv")
    assert (first["deploymentID"], first["latitude"], first["habitat"]) == ("D1", "50.5", "beech")
    assert second["deploymentStart"] == "2024-05-01T12:00:10+02:00"
    assert json.loads((tmp_path / "package/datapackage.json").read_text())["title"] == "Harz"


def test_the_validation_can_fail(season: Detections, tmp_path: Path) -> None:
    write("camtrapdp-package", tmp_path / "package", season)
    path = tmp_path / "package/media.csv"
    path.write_text(path.read_text().replace("north", "nowhere", 1).replace("+02:00", "", 1))
    assert {kind for kind, _ in validate(tmp_path / "package")} == {"foreign-key", "type-error"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latitude,longitude\n1,2\n", "no column deploymentID"),
        ("deploymentID\nnorth\nnorth\n", "twice"),
        ("deploymentID,latitude,longitude\neast,1,2\nwest,1,2\n", "no deployment has the name of one of its folders"),
        ("deploymentID,latitude,longitude\ncard,152.5,13.4\n", "card: latitude 152.5 is not a number from -90 to 90"),
        ("deploymentID,latitude,longitude\ncard,nan,13.4\n", "latitude nan is not a number from -90 to 90"),
        ("deploymentID,latitude,longitude\ncard,52.5,13°24'\n", "longitude 13°24' is not a number from -180 to 180"),
    ],
)
def test_a_table_of_deployments_that_does_not_fit_is_said(
    text: str, message: str, season: Detections, tmp_path: Path
) -> None:
    (tmp_path / "deployments.csv").write_text(text)
    with pytest.raises(LinnaeaError, match=message):
        write("camtrapdp-package", tmp_path / "package", season, deployments=tmp_path / "deployments.csv")
    assert not (tmp_path / "package/datapackage.json").exists()


def test_decimal_commas_of_deployments_are_read(season: Detections, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("deploymentID;latitude;longitude\nnorth;52,5;-13,4\nsouth;-0,25;13\n")
    write("camtrapdp-package", tmp_path / "package", season, deployments=tmp_path / "d.csv")
    places = table(tmp_path / "package/deployments.csv")
    assert [(one["latitude"], one["longitude"]) for one in places] == [("52.5", "-13.4"), ("-0.25", "13")]
    content = json.loads((tmp_path / "package/datapackage.json").read_text())
    assert content["spatial"]["coordinates"] == [[-13.4, 52.5], [13.0, -0.25]]


def test_what_the_format_asks_for_and_nobody_states_is_said(tmp_path: Path) -> None:
    photograph(tmp_path / "card/a.jpg", 0, None)
    rows = answer(list_inputs([str(tmp_path / "card")]), FOX)
    with pytest.raises(LinnaeaError, match="deployment card: no position; give --deployments"):
        write_rows(tmp_path / "package", "camtrapdp-package", rows, Context(zone=BERLIN))
    with pytest.raises(LinnaeaError, match="--timezone"):
        write_rows(tmp_path / "package", "camtrapdp-package", rows)


def test_a_deployment_whose_time_has_no_offset_is_said(season: Detections, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("deploymentID,latitude,longitude,deploymentStart\ncard,1,2,2024-05-01T00:00:00\n")
    with pytest.raises(UsageError, match=r"^deployment card: deploymentStart 2024-05-01T00:00:00: .*needs its offset"):
        write("camtrapdp-package", tmp_path / "package", season, deployments=tmp_path / "d.csv")


def test_photographs_outside_of_the_period_of_their_deployment_are_counted() -> None:
    said: list[str] = []
    place = Deployment(
        id="north", facts={"folder": "north", "deploymentEnd": (START + timedelta(days=1)).isoformat() + "Z"}
    )
    media = [replace(medium(f"card/north/{day}.jpg", 86_400 * day), deployment="") for day in (0, 2, 3)]
    assert [one.deployment for one in place_media(media, [place], said.append)] == ["north"] * 3
    assert len(said) == 1
    assert "2 photographs (such as card/north/2.jpg" in said[0]


def test_a_darwin_core_archive_is_read_by_its_reader(season: Detections, tmp_path: Path) -> None:
    from dwca.read import DwCAReader

    told = write("dwca", tmp_path / "out.zip", season)
    assert any("of people" in line for line in told)
    with DwCAReader(str(tmp_path / "out.zip")) as archive:
        assert archive.descriptor.core.type.endswith("/Occurrence")
        rows = list(archive)
        assert archive.metadata is not None
        (picture,) = rows[0].extensions
    dwc = "http://rs.tdwg.org/dwc/terms/"
    first, *_, last = rows
    assert len(rows) == 4, "three boxes with a fox, and one on a photograph without a time"
    assert first.data[f"{dwc}scientificName"] == "Vulpes vulpes"
    assert first.data[f"{dwc}scientificNameID"] == "https://www.inaturalist.org/taxa/42069"
    assert first.data[f"{dwc}family"] == "Canidae"
    assert first.data[f"{dwc}eventDate"] == "2024-05-01T12:00:00+02:00"
    assert float(first.data[f"{dwc}decimalLatitude"]) == 52.5
    assert first.data[f"{dwc}identificationVerificationStatus"] == "unverified"
    assert "probability 0.75" in first.data[f"{dwc}identificationRemarks"]
    assert first.data[f"{dwc}basisOfRecord"] == "MachineObservation"
    assert last.data[f"{dwc}eventDate"] == last.data[f"{dwc}decimalLatitude"] == ""
    assert picture.data["http://purl.org/dc/terms/identifier"] == "north/a.jpg"
    assert picture.data["http://purl.org/dc/terms/type"] == "StillImage"
    assert len({row.id for row in rows}) == len(rows)


def medium(name: str, after_s: float | None, deployment: str = "north") -> Medium:
    moment = "" if after_s is None else (START + timedelta(seconds=after_s)).isoformat() + "+00:00"
    return Medium(path=name, file=name, moment=moment, deployment=deployment)


@pytest.mark.parametrize(
    ("after_s", "events"),
    [
        ([0, 30, 60, 90], [0, 0, 0, 0]),  # a run goes on, however long
        ([0, 60, 121], [0, 0, 1]),
        ([121, 0, 60], [1, 0, 0]),  # order of time, not of names
        ([0, None, 10], [0, None, 0]),
        ([0], [0]),
    ],
)
def test_a_longer_gap_begins_an_event(after_s: Sequence[float | None], events: Sequence[int | None]) -> None:
    media = find_events([medium(f"{number}.jpg", one) for number, one in enumerate(after_s)], 60.0)
    found = [one.event for one in media]
    assert [not one for one in found] == [event is None for event in events]
    groups = {event: {one for one, each in zip(found, events, strict=True) if each == event} for event in events}
    assert all(len(names) == 1 for names in groups.values())
    assert len(set(found)) == len(set(events))


def test_two_cameras_have_no_event_in_common() -> None:
    media = find_events([medium("a.jpg", 0), medium("b.jpg", 0, "south")], 60.0)
    assert media[0].event != media[1].event
    mixed = [replace(medium(f"{number}.jpg", 5 * number), camera=camera) for number, camera in enumerate("ABAB")]
    events = [one.event for one in find_events(mixed, 60.0)]
    assert events[0] == events[2] != events[1] == events[3], "two cameras on one card"


CLOCKS: dict[str, tuple[list[str], bool]] = {
    "over midnight": (["2024-12-31T23:59:50", "2025-01-01T00:00:10"], True),
    "clock put forward": (["2024-03-31T01:59:50+01:00", "2024-03-31T03:00:10+02:00"], True),
    "an hour that comes twice": (["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:10+01:00"], False),
    "an hour that comes twice, without offsets": (["2024-10-27T02:30:00", "2024-10-27T02:30:10"], True),
    "one without an offset": (["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:10"], True),
}


@pytest.mark.parametrize("kind", CLOCKS)
def test_events_last_over_midnight_and_the_change_of_clocks(kind: str) -> None:
    times, is_one = CLOCKS[kind]
    media = [Medium(path=f"{number}.jpg", file=f"{number}.jpg", deployment="north", clock=text[:19],
                    stated=text if len(text) > 19 else "") for number, text in enumerate(times)]  # fmt: skip
    assert (len({one.event for one in find_events(media, 60.0)}) == 1) == is_one
