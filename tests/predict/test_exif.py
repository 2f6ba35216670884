"""Where and when a photograph says that it was taken."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.data.exif import Taken, read_taken

NOON = "2024:06:01 12:30:05"


def test_a_photograph_may_say_where_it_was_taken(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    exif[Base.DateTime] = "2024:06:15 12:00:00"
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "S", (33.0, 30.0, 36.0)
    gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "E", (151.0, 12.0, 0.0)
    image.save(tmp_path / "where.jpg", exif=exif)
    image.save(tmp_path / "nowhere.jpg")
    where = read_taken(tmp_path / "where.jpg")
    assert (where.position, where.month) == ((-33.51, 151.2), 6)
    assert read_taken((tmp_path / "where.jpg").read_bytes()) == where
    assert read_taken(tmp_path / "nowhere.jpg").position is None
    assert read_taken(tmp_path / "missing.jpg") == Taken()


def test_each_fact_stands_by_itself(tmp_path: Path) -> None:
    """A date without a position, a position without a date, and a receiver without a fix."""
    for name, date, position in (("date", NOON, None), ("place", "", (52.0, 13.0)), ("zeros", NOON, (0.0, 0.0))):
        image = Image.new("RGB", (8, 8))
        exif = image.getexif()
        if date:
            exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = date
        if position:
            gps = exif.get_ifd(IFD.GPSInfo)
            gps[GPS.GPSLatitude], gps[GPS.GPSLongitude] = ((degrees, 0.0, 0.0) for degrees in position)
            gps[GPS.GPSLatitudeRef], gps[GPS.GPSLongitudeRef] = "N", "E"
        image.save(tmp_path / f"{name}.jpg", exif=exif)
    found = [read_taken(tmp_path / f"{name}.jpg") for name in ("date", "place", "zeros")]
    assert [(one.position, one.month) for one in found] == [(None, 6), ((52.0, 13.0), 0), (None, 6)]
    assert found[0].clock == datetime(2024, 6, 1, 12, 30, 5)


EAST_2 = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("camera", "satellites", "expected"),
    [
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "+02:00"}, {},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON}, {GPS.GPSDateStamp: "2024:06:01", GPS.GPSTimeStamp: (10.0, 30.0, 5.0)},
         datetime(2024, 6, 1, 10, 30, 5, tzinfo=UTC)),
        ({Base.DateTimeOriginal: NOON}, {}, None),  # a clock that may stand anywhere
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00", Base.OffsetTimeOriginal: "+02:00"}, {}, None),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "summer"}, {GPS.GPSDateStamp: "today"}, None),
        ({}, {GPS.GPSDateStamp: "2024:06:01"}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_a_moment_needs_its_offset(
    tmp_path: Path, camera: dict[int, Any], satellites: dict[int, Any], expected: datetime | None
) -> None:
    exif = Image.Exif()
    exif.get_ifd(IFD.Exif).update(camera)
    exif.get_ifd(IFD.GPSInfo).update(satellites)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    moment = read_taken(tmp_path / "a.jpg").moment
    assert moment == expected
    if expected and moment:
        assert moment.isoformat() == expected.isoformat()


def test_what_is_no_photograph_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert read_taken(tmp_path / "a.jpg").moment is None
    assert read_taken(tmp_path / "missing.jpg").moment is None
