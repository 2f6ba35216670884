"""Photographs with times and places, and the official validation of packages of records."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from frictionless import Package, Resource, Schema
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.predict.outputs.camtrapdp import parse_zone

PROFILE = Path(__file__).parent / "records/camtrap-dp-1.0.2"
BERLIN = parse_zone("Europe/Berlin")
START = datetime(2024, 5, 1, 12, 0, 0)


def photograph(path: Path, after_s: float, place: tuple[float, float] | None = (52.5, 13.4)) -> Path:
    """A photograph taken so many seconds after the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Drawn", "Trap 1"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"{START + timedelta(seconds=after_s):%Y:%m:%d %H:%M:%S}"
    if place is not None:
        gps = exif.get_ifd(IFD.GPSInfo)
        gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "N", (place[0], 0.0, 0.0)
        gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "E", (place[1], 0.0, 0.0)
    pixels = np.random.default_rng(int(after_s)).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def validate(folder: Path) -> list[Any]:
    """The errors of frictionless, with the official profile read from this folder in place of the network."""
    content = json.loads((folder / "datapackage.json").read_text())
    assert content["profile"].endswith("/camtrap-dp/1.0.2/camtrap-dp-profile.json")
    resources = []
    for resource in content["resources"]:
        name = f"{resource['name']}-table-schema"
        assert resource["schema"] == content["profile"].replace("camtrap-dp-profile", name)
        schema = Schema.from_descriptor(json.loads((PROFILE / f"{name}.json").read_text()))
        resources.append(Resource(name=resource["name"], path=resource["path"], schema=schema, basepath=str(folder)))
    report = Package(resources=resources, basepath=str(folder)).validate()
    return report.flatten(["type", "message"])


def validate_profile(folder: Path) -> list[str]:
    """The errors of ``datapackage.json`` by the part of the official profile that needs no network."""
    from jsonschema import Draft4Validator

    profile = json.loads((PROFILE / "camtrap-dp-profile.json").read_text())
    camtrap = {**profile, "allOf": [part for part in profile["allOf"] if "$ref" not in part]}
    camtrap["allOf"][0]["properties"]["spatial"].pop("$ref", None)
    content = json.loads((folder / "datapackage.json").read_text())
    return [error.message for error in Draft4Validator(camtrap).iter_errors(content)]
