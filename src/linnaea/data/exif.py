"""What a photograph's EXIF says about where, when and with which camera it was taken; each fact by itself."""

import io
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import GPS, IFD, Base

_Fact = TypeVar("_Fact")
_UNREADABLE = (OSError, UnidentifiedImageError, KeyError, ValueError, TypeError, ZeroDivisionError, IndexError,
               SyntaxError, AttributeError)  # fmt: skip
"""The exceptions that a reader raises on EXIF of some cameras and editors."""
_CAMERA = (Base.Make, Base.Model, Base.BodySerialNumber)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Where, when and with which camera a photograph was taken, as far as it says."""

    position: tuple[float, float] | None = None
    """Degrees north and east. A receiver without a fix writes zeros, which are no position."""
    month: int = 0
    """1 to 12; 0 if there is no date."""
    clock: datetime | None = None
    """The time of the camera's clock, without an offset from UTC."""
    moment: datetime | None = None
    """The time with its offset: the camera's clock if the camera wrote its offset (EXIF 2.31, OffsetTimeOriginal), else
    the GPS time."""
    camera: str = ""
    """Maker, model and serial number."""


def read_taken(source: Path | bytes) -> Taken:
    """Return what a photograph says; nothing, if it cannot be read."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            exif = image.getexif()
        tags, gps = {**exif, **exif.get_ifd(IFD.Exif)}, exif.get_ifd(IFD.GPSInfo)
    except (*_UNREADABLE, Image.DecompressionBombError):
        return Taken()
    date = str(tags.get(Base.DateTimeOriginal) or tags.get(Base.DateTime) or "").strip("\0 ")
    return Taken(
        position=_if_readable(lambda: _position(gps)),
        month=_if_readable(lambda: _month(date)) or 0,
        clock=_if_readable(lambda: datetime.strptime(date, "%Y:%m:%d %H:%M:%S")),
        moment=_if_readable(lambda: _moment(date, str(tags.get(Base.OffsetTimeOriginal) or "").strip("\0 ")))
        or _if_readable(lambda: _satellite_time(gps)),
        camera=" ".join(str(tags.get(tag) or "").strip("\0 ") for tag in _CAMERA),
    )  # fmt: skip


def _if_readable(read: Callable[[], _Fact]) -> _Fact | None:
    with suppress(*_UNREADABLE):
        return read()
    return None


def _position(gps: dict[int, Any]) -> tuple[float, float] | None:
    lat, lon = (_degrees(gps[axis], str(gps.get(side, ""))) for axis, side in
                ((GPS.GPSLatitude, GPS.GPSLatitudeRef), (GPS.GPSLongitude, GPS.GPSLongitudeRef)))  # fmt: skip
    return (lat, lon) if -90 <= lat <= 90 and -180 <= lon <= 180 and (lat or lon) else None


def _degrees(parts: Any, side: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if side.upper() in ("S", "W") else value


def _month(date: str) -> int:
    month = int(date[5:7])
    return month if 1 <= month <= 12 else 0


def _moment(date: str, offset: str) -> datetime | None:
    if not re.fullmatch(r"[+-]\d\d:\d\d", offset):
        return None
    return datetime.strptime(date + offset, "%Y:%m:%d %H:%M:%S%z")


def _satellite_time(gps: dict[int, Any]) -> datetime:
    day = datetime.strptime(str(gps[GPS.GPSDateStamp]).strip("\0 "), "%Y:%m:%d")
    hour, minute, second = (int(float(part)) for part in gps[GPS.GPSTimeStamp])
    return day.replace(hour=hour, minute=minute, second=second, tzinfo=UTC)
