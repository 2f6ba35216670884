"""Where, when and with which camera a photograph says that it was taken (EXIF, CIPA DC-008); each fact by itself."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from linnaea.data.frames import is_video
from linnaea.data.images import ImageError, call_apart, open_image, read_image_file
from linnaea.data.isolated import CallLimits
from linnaea.data.jpegs import JPEG_MAGIC, jpeg_head
from linnaea.errors import LinnaeaError

_DATE = re.compile(r"(\d{4})\D(\d\d?)\D(\d\d?)(?: +|T)(\d\d?):(\d\d)(?::(\d\d|  ))?(\.\d+)?\s*([AP]M)?\s*(.*)",
                   re.DOTALL | re.IGNORECASE | re.ASCII)  # fmt: skip
"""Year to minute; the seconds may be left out or blank; a fraction, AM or PM, and the rest, which may be an offset."""
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d\d)?")
_WEST_OR_SOUTH, _EAST_OR_NORTH = re.compile(r"[SWZ]|O[EUV]", re.IGNORECASE), re.compile(r"[NEL]|O[OS]", re.IGNORECASE)
"""South, Zuid, west, Ouest, Oeste, Ovest; north, east, Leste, Oost, Ost. O alone may be either."""
_FIRST_FIX_YEAR = 1990
"""Receivers without a fix write the beginning of their count, 6 January 1980."""
_LAST_OFFSET, _FIRST_OFFSET = timedelta(hours=14), timedelta(hours=-12)
_OFFSETS = [timedelta(minutes=30 * step) for step in range(-24, 29)] + [
    timedelta(minutes=minutes)
    for minutes in (345, 525, 765)  # Nepal, Eucla, Chatham
]
_FIX_AGE = timedelta(minutes=15)
_NOWHERE_DEG = 1e-6
_CAMERA = (Base.Make, Base.Model, Base.BodySerialNumber)
_HEAD_BYTES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Where, when and with which camera a photograph was taken, as far as it says."""

    position: tuple[float, float] | None = None
    """Degrees north and east. A receiver without a fix writes zeros, which are not a position."""
    month: int = 0
    """1 to 12; 0 if there is no date."""
    clock: datetime | None = None
    """The time of the camera's clock, without an offset from UTC."""
    moment: datetime | None = None
    """The time with its offset: as the camera wrote it (OffsetTimeOriginal), else by the time of the satellites."""
    camera: str = ""
    """Maker, model and serial number."""


def read_taken(source: Path | bytes | Image.Image, limits: CallLimits | None = None) -> Taken:
    """Return what a photograph says; nothing, if it cannot be read.

    A JPEG is read here, unless there are ``limits``. Everything else is read in a process of its own.
    """
    if isinstance(source, Path) and (not source.is_file() or is_video(source)):
        return Taken()
    try:
        stated = _facts_of(source) if isinstance(source, Image.Image) else _read_facts(source, limits)
    except (OSError, ValueError, LinnaeaError):
        return Taken()
    clock, moment = (datetime.fromisoformat(text) if text else None for text in (stated["clock"], stated["moment"]))
    position = (float(stated["position"][0]), float(stated["position"][1])) if stated["position"] else None
    return Taken(position=position, month=stated["month"], clock=clock, moment=moment, camera=stated["camera"])


def _read_facts(source: Path | bytes, limits: CallLimits | None) -> dict[str, Any]:
    head = source[:_HEAD_BYTES] if isinstance(source, bytes) else _read_start(source)
    if head.startswith(JPEG_MAGIC) and limits is None:
        return _facts_of_jpeg(head)
    apart = source if isinstance(source, bytes) else str(source)
    facts: dict[str, Any] = call_apart(facts_here, apart, limits=limits)
    return facts


def _read_start(path: Path) -> bytes:
    """Return the beginning of a JPEG, which holds its EXIF; of another file its first bytes."""
    with path.open("rb") as stream:
        first = stream.read(3)
        return first + stream.read(_HEAD_BYTES) if first == JPEG_MAGIC else first


def facts_here(source: str | bytes) -> dict[str, Any]:
    """Return the facts of a photograph of any format, as JSON.

    Raises:
        ImageError: the file cannot be read.
    """
    data = source if isinstance(source, bytes) else read_image_file(Path(source))
    for opened in _iter_opened(data):
        facts = _facts_of(opened)
        if any(facts.values()):
            return facts
    return _facts_of(None)


def _iter_opened(data: bytes) -> Iterator[Image.Image]:
    """Yield the file's picture and then the JPEGs within it: many raw formats state everything in their preview."""
    with suppress(Exception), open_image(data) as image:
        yield image
    place = data.find(JPEG_MAGIC)
    if place > 0:
        with suppress(Exception), Image.open(io.BytesIO(jpeg_head(data[place : place + _HEAD_BYTES]))) as image:
            yield image


def _facts_of_jpeg(data: bytes) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(jpeg_head(data))) as image:
                return _facts_of(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(str(error)) from error


def _facts_of(image: Image.Image | None) -> dict[str, Any]:
    tags: dict[int, Any] = {}
    gps: dict[int, Any] = {}
    if image is not None:
        with warnings.catch_warnings(), suppress(Exception):  # Pillow's reader raises many kinds on broken EXIF
            warnings.simplefilter("ignore")
            exif = image.getexif()
            tags = {**exif, **exif.get_ifd(IFD.Exif)}  # their numbers do not overlap
            gps = dict(exif.get_ifd(IFD.GPSInfo))
    clock, offset = _clock(tags)
    moment = _moment(clock, offset, _satellite_time(gps))
    dated = clock or moment
    return {
        "position": _position(gps),
        "month": dated.month if dated else _month(_text(tags.get(Base.DateTimeOriginal) or tags.get(Base.DateTime))),
        "clock": clock.isoformat() if clock else "",
        "moment": moment.isoformat() if moment else "",
        "camera": " ".join(filter(None, (_text(tags.get(tag)) for tag in _CAMERA))),
    }


def _month(date: str) -> int:
    """Return the month of an incomplete date, 0 if it has none."""
    month = date[5:7]
    return int(month) if month.isdecimal() and 1 <= int(month) <= 12 else 0


def _clock(tags: Mapping[int, Any]) -> tuple[datetime | None, timedelta | None]:
    """Return the first valid date of the camera and its offset: when taken, when stored, when changed."""
    stored = (
        (Base.DateTimeOriginal, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal),
        (Base.DateTimeDigitized, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized),
        (Base.DateTime, Base.OffsetTime, Base.SubsecTime),
    )
    for date, offset, fraction in stored:
        found = _DATE.fullmatch(_text(tags.get(date)))
        if found is None:
            continue
        digits = found[7] or _fraction(_text(tags.get(fraction)))
        with suppress(ValueError):  # 0000:00:00, 30 February
            year, month, day, hour, minute, second = (int((found[part] or "").strip() or 0) for part in range(1, 7))
            moment = datetime(year, month, day, _in_24_hours(hour, found[8]), minute, second)
            words = (found[9], _text(tags.get(offset)), _text(tags.get(Base.OffsetTime)))
            known = (_read_offset(word) for word in words)
            offset_of_clock = next((one for one in known if one is not None), None)
            return moment + timedelta(seconds=float(f"0{digits}")), offset_of_clock
    return None, None


def _in_24_hours(hour: int, half: str | None) -> int:
    return hour if half is None or not 1 <= hour <= 12 else hour % 12 + 12 * (half.upper() == "PM")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value or "").strip("\0 \t\n")


def _fraction(digits: str) -> str:
    return f".{digits.lstrip('.')}" if digits.lstrip(".").isdecimal() else ""


def _read_offset(word: str) -> timedelta | None:
    """Return the offset of ``+02:00``, ``+0200``, ``+2`` or ``Z``; ``None`` for anything else."""
    if word.upper() in ("Z", "UTC", "GMT"):
        return timedelta()
    found = _OFFSET.fullmatch(word.upper().replace(" ", "").replace("\u2212", "-"))
    if found is None or int(found[3] or 0) > 59:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0)) * (-1 if found[1] == "-" else 1)
    return offset if _FIRST_OFFSET <= offset <= _LAST_OFFSET else None


def _satellite_time(gps: Mapping[int, Any]) -> datetime | None:
    with suppress(Exception):  # rationals over zero, too few of them, words
        year, month, day = (int(part) for part in re.split(r"\D", _text(gps[GPS.GPSDateStamp])))
        if year < _FIRST_FIX_YEAR:
            return None
        hour, minute, second = (float(part) for part in gps[GPS.GPSTimeStamp])
        return datetime(year, month, day, tzinfo=UTC) + timedelta(hours=hour, minutes=minute, seconds=int(second))
    return None


def _moment(clock: datetime | None, offset: timedelta | None, satellites: datetime | None) -> datetime | None:
    """Return the time with its offset: as the camera states it, else by the satellites' time.

    The satellites' time may be that of an earlier fix. Within 14 hours of the clock it tells the clock's offset, the
    nearest that exists. Further away it is not the photograph's.
    """
    if clock is None:
        return satellites
    if offset is None and satellites is not None:
        ahead = clock - satellites.replace(tzinfo=None)
        if _FIRST_OFFSET - _FIX_AGE <= ahead <= _LAST_OFFSET + _FIX_AGE:
            offset = min(_OFFSETS, key=lambda known: abs(known - ahead))
    return None if offset is None else clock.replace(tzinfo=timezone(offset))


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return degrees north and east; ``None`` if they are not stated, impossible, or 0, 0, which receivers write."""
    with suppress(Exception):
        lat = _degrees(gps[GPS.GPSLatitude], _text(gps.get(GPS.GPSLatitudeRef)))
        lon = _degrees(gps[GPS.GPSLongitude], _text(gps.get(GPS.GPSLongitudeRef)))
        if -90 <= lat <= 90 and -180 <= lon <= 180 and max(abs(lat), abs(lon)) > _NOWHERE_DEG:
            return lat, lon
    return None


def _degrees(stated: Any, side: str) -> float:
    """Return degrees from one to three numbers (degrees, minutes, seconds) and ``S``, ``W``, ``west`` or nothing.

    Some writers give degrees and minutes alone, and 0/0 for the seconds.
    """
    if isinstance(stated, str | bytes):
        side = side or _text(stated)[-1:]
        stated = re.findall(r"-?\d+(?:\.\d+)?", _text(stated))
    parts = [float(part) for part in (stated if isinstance(stated, list | tuple) else [stated])]
    while len(parts) > 1 and math.isnan(parts[-1]):
        parts.pop()
    value = math.fsum(abs(part) / 60**power for power, part in enumerate(parts))
    if side.isalpha() and not _EAST_OR_NORTH.match(side) and not _WEST_OR_SOUTH.match(side):
        raise ValueError(f"{side!r} is not north, south, east or west")
    return -value if _WEST_OR_SOUTH.match(side) or (parts[0] < 0 and not side) else value
