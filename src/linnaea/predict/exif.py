"""Where and when a photograph says that it was taken (EXIF)."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import GPS, IFD, Base

from linnaea.predict.priors import Place

_UNREADABLE = (OSError, UnidentifiedImageError, KeyError, ValueError, TypeError, ZeroDivisionError, IndexError)
"""What cameras' and editors' EXIF makes of a reader."""


def place_of_photograph(path: Path) -> Place | None:
    """Position and month (0 where there is no date); ``None`` where a photograph does not say."""
    try:
        exif, gps = _read(path)
        lat, lon = (_degrees(gps[axis], str(gps.get(side, ""))) for axis, side in
                    ((GPS.GPSLatitude, GPS.GPSLatitudeRef), (GPS.GPSLongitude, GPS.GPSLongitudeRef)))  # fmt: skip
        taken = _date_in(exif)
        month = int(taken[5:7]) if taken[5:7].isdigit() else 0
        return Place(lat=lat, lon=lon, month=month if month <= 12 else 0)
    except _UNREADABLE:
        return None


def time_of_photograph(path: Path) -> datetime | None:
    """The moment with its offset from UTC; ``None`` where a photograph does not say both.

    The camera's clock counts if the camera wrote its offset (EXIF 2.31, OffsetTimeOriginal); else the satellites' time.
    """
    try:
        exif, gps = _read(path)
    except _UNREADABLE:
        return None
    offset = str(exif.get(Base.OffsetTimeOriginal) or "").strip("\0 ")
    if re.fullmatch(r"[+-]\d\d:\d\d", offset):
        with suppress(*_UNREADABLE):
            return datetime.strptime(_date_in(exif) + offset, "%Y:%m:%d %H:%M:%S%z")
    with suppress(*_UNREADABLE):
        day = datetime.strptime(str(gps[GPS.GPSDateStamp]).strip("\0 "), "%Y:%m:%d")
        hour, minute, second = (int(float(part)) for part in gps[GPS.GPSTimeStamp])
        return day.replace(hour=hour, minute=minute, second=second, tzinfo=UTC)
    return None


def _read(path: Path) -> tuple[dict[int, Any], dict[int, Any]]:
    """The tags of the main directory and of EXIF's own, whose numbers never meet, and those of GPS."""
    with Image.open(path) as image:
        exif = image.getexif()
    return {**exif, **exif.get_ifd(IFD.Exif)}, exif.get_ifd(IFD.GPSInfo)


def _date_in(exif: dict[int, Any]) -> str:
    return str(exif.get(Base.DateTimeOriginal) or exif.get(Base.DateTime) or "").strip("\0 ")


def _degrees(parts: Any, side: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if side.upper() in ("S", "W") else value
