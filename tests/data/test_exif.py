"""Where and when a photograph says that it was taken."""

import io
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

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


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("2024:06:01 12:30", datetime(2024, 6, 1, 12, 30)),
        ("2024:06:01 12:30:  ", datetime(2024, 6, 1, 12, 30)),
        ("2024:6:1  9:03:02", datetime(2024, 6, 1, 9, 3, 2)),
        ("2024:06:01 01:30:05 PM", datetime(2024, 6, 1, 13, 30, 5)),
        ("2024:06:01 12:30:05 am", datetime(2024, 6, 1, 0, 30, 5)),
        ("2024:06:01 13:30:05 PM", datetime(2024, 6, 1, 13, 30, 5)),
        ("2024:06:01", None),
        ("2024:06:01   :  :  ", None),
        ("2024:06:31 12:30:05", None),
    ],
)
def test_clocks_are_read_as_cameras_write_them(stated: str, expected: datetime | None) -> None:
    assert read_taken(tagged({Base.DateTimeOriginal: stated})).clock == expected


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (("Sud", "Ouest"), (-52, -13)),
        (("Zuid", "Oost"), (-52, 13)),
        (("north", "Leste"), (52, 13)),
        (("N", "Oeste"), (52, -13)),
        (("N", "O"), None),  # Ouest or Ost
    ],
)
def test_sides_have_names_in_several_languages(sides: tuple[str, str], expected: tuple[float, float] | None) -> None:
    gps = {GPS.GPSLatitude: (52.0, 0.0, 0.0), GPS.GPSLongitude: (13.0, 0.0, 0.0),
           GPS.GPSLatitudeRef: sides[0], GPS.GPSLongitudeRef: sides[1]}  # fmt: skip
    assert read_taken(tagged({}, gps)).position == expected


def tagged(camera: dict[int, Any], gps: dict[int, Any] | None = None) -> bytes:
    image, stream = Image.new("RGB", (8, 8)), io.BytesIO()
    exif = image.getexif()
    exif.get_ifd(IFD.Exif).update(camera)
    exif.get_ifd(IFD.GPSInfo).update(gps or {})
    image.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


EAST_2 = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("camera", "satellites", "expected"),
    [
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "+02:00"}, {},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON}, {GPS.GPSDateStamp: "2024:06:01", GPS.GPSTimeStamp: (10.0, 30.0, 5.0)},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON}, {}, None),  # a clock that may stand anywhere
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00", Base.OffsetTimeOriginal: "+02:00"}, {}, None),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "summer"}, {GPS.GPSDateStamp: "today"}, None),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "UTC+2"}, {},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({}, {GPS.GPSDateStamp: "2024:06:01"}, None),
        ({}, {GPS.GPSDateStamp: "1980:01:06", GPS.GPSTimeStamp: (0.0, 0.0, 0.0)}, None),  # a receiver without a fix
        ({}, {GPS.GPSDateStamp: "2024-06-01", GPS.GPSTimeStamp: (10.0, 30.0, 5.4)},
         datetime(2024, 6, 1, 10, 30, 5, tzinfo=UTC)),
        # The last fix is minutes old, or days: then it is not the photograph's.
        ({Base.DateTimeOriginal: NOON}, {GPS.GPSDateStamp: "2024:06:01", GPS.GPSTimeStamp: (10.0, 23.0, 0.0)},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON}, {GPS.GPSDateStamp: "2024:05:29", GPS.GPSTimeStamp: (10.0, 30.0, 5.0)}, None),
        ({Base.DateTimeOriginal: NOON}, {GPS.GPSDateStamp: "2024:06:01", GPS.GPSTimeStamp: (6.0, 45.0, 5.0)},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00"}, {GPS.GPSDateStamp: "2024:06:01",
                                                          GPS.GPSTimeStamp: (10.0, 30.0, 5.0)},
         datetime(2024, 6, 1, 10, 30, 5, tzinfo=UTC)),
        ({Base.DateTimeOriginal: "0000:00:00 00:00:00", Base.DateTimeDigitized: NOON,
          Base.OffsetTimeDigitized: "+0200"}, {}, datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTime: "+02:00"}, {}, datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "Z"}, {},
         datetime(2024, 6, 1, 12, 30, 5, tzinfo=timezone(timedelta()))),
        ({Base.DateTimeOriginal: f"{NOON}+02:00"}, {}, datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: "2024-06-01T12:30:05.25", Base.OffsetTimeOriginal: "+02:00"}, {},
         datetime(2024, 6, 1, 12, 30, 5, 250_000, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON, Base.SubsecTimeOriginal: "5 ", Base.OffsetTimeOriginal: "+02:00"}, {},
         datetime(2024, 6, 1, 12, 30, 5, 500_000, tzinfo=EAST_2)),
        ({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "+25:00"}, {}, None),
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


def position_of(path: Path, lat: Any, north: Any, lon: Any, east: Any) -> tuple[float, float] | None:
    exif = Image.Exif()
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[GPS.GPSLatitude], gps[GPS.GPSLongitude] = lat, lon
    if north is not None:
        gps[GPS.GPSLatitudeRef], gps[GPS.GPSLongitudeRef] = north, east
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return read_taken(path).position


@pytest.mark.parametrize(("north", "east", "signs"), [
    ("S", "W", (-1, -1)), ("s", "w", (-1, -1)), ("South", "West", (-1, -1)), ("S\0", "E\0", (-1, 1)),
    ("N", "E", (1, 1)), ("north", "east", (1, 1)), (None, None, (1, 1)), (" S ", " W ", (-1, -1)),
])  # fmt: skip
def test_the_side_is_read_in_any_spelling(north: Any, east: Any, signs: tuple[int, int], tmp_path: Path) -> None:
    found = position_of(tmp_path / "a.jpg", (33.0, 30.0, 36.0), north, (70.0, 12.0, 0.0), east)
    assert found == pytest.approx((signs[0] * 33.51, signs[1] * 70.2))


_UNKNOWN = IFDRational(0, 0)


@pytest.mark.parametrize(("lat", "lon", "expected"), [
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), None),
    ((0.0, 0.0, 0.0), (32.0, 30.0, 0.0), (0.0, 32.5)),  # on the equator in Uganda
    ((52.0, 30.6, 0.0), (13.0, 24.0, 0.0), (52.51, 13.4)),
    ((97.0, 0.0, 0.0), (13.0, 0.0, 0.0), None),
    ((52.0, 30.6, _UNKNOWN), (13.0, 24.0, _UNKNOWN), (52.51, 13.4)),  # minutes with a fraction, and no seconds
    ((_UNKNOWN, 30.6, 0.0), (13.0, 24.0, 0.0), None),
    ((_UNKNOWN, _UNKNOWN, _UNKNOWN), (13.0, 24.0, 0.0), None),
])  # fmt: skip
def test_receivers_write_nought_for_nowhere(lat: Any, lon: Any, expected: Any, tmp_path: Path) -> None:
    found = position_of(tmp_path / "a.jpg", lat, "N", lon, "E")
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("ending", ["png", "webp", "heic", "avif", "raf"])
def test_other_formats_state_it_too(ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Make] = "Camera"
    exif.get_ifd(IFD.Exif).update({Base.DateTimeOriginal: NOON, Base.OffsetTimeOriginal: "+02:00"})
    image, path = Image.new("RGB", (64, 64)), tmp_path / f"a.{ending}"
    if ending == "heic":
        import pillow_heif

        pillow_heif.from_pillow(image).save(path, exif=exif.tobytes())
    elif ending == "raf":
        image.save(path, "JPEG", exif=exif)
        path.write_bytes(b"FUJIFILMCCD-RAW " + bytes(100) + path.read_bytes())
    else:
        image.save(path, exif=exif)
    assert read_taken(path).moment == datetime(2024, 6, 1, 12, 30, 5, tzinfo=EAST_2)
