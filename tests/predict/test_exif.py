"""Where and when a photograph says that it was taken."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.predict.priors import Place, place_of_photograph, time_of_photograph


def test_a_photograph_may_say_where_it_was_taken(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    exif = image.getexif()
    exif[Base.DateTime] = "2024:06:15 12:00:00"
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "S", (33.0, 30.0, 36.0)
    gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "E", (151.0, 12.0, 0.0)
    image.save(tmp_path / "where.jpg", exif=exif)
    image.save(tmp_path / "nowhere.jpg")
    assert place_of_photograph(tmp_path / "where.jpg") == Place(lat=-33.51, lon=151.2, month=6)
    assert place_of_photograph(tmp_path / "nowhere.jpg") is None
    assert place_of_photograph(tmp_path / "missing.jpg") is None


NOON = "2024:06:01 12:30:05"
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
    moment = time_of_photograph(tmp_path / "a.jpg")
    assert moment == expected
    if expected and moment:
        assert moment.isoformat() == expected.isoformat()


def test_what_is_no_photograph_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert time_of_photograph(tmp_path / "a.jpg") is None
    assert time_of_photograph(tmp_path / "missing.jpg") is None
