"""Decode plain JPEGs fast (libjpeg-turbo with scaled decoding), and tell intact files from damaged ones.

libjpeg fills what is missing with grey and goes on with what is wrong. Its warnings are therefore errors here, except
those that concern no pixel: a missing end marker and stray bytes before it.
"""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from linnaea.data.colours import ADOBE_RGB, to_srgb, transform_to_srgb
from linnaea.data.orientation import UPRIGHT, orientation_of, turn_upright
from linnaea.data.picture import ImageError, OnNote, Picture, check_size, ignore_note

JPEG_MAGIC = b"\xff\xd8\xff"

_MARKER, _SCAN, _TABLES = 0xFF, 0xDA, 0xC4
_END, _PROGRESSIVE, _SCAN_MARKER = b"\xff\xd9", b"\xff\xc2", b"\xff\xda"
_PLAIN_PIXELS, _PLAIN_SCANS = 64_000_000, 100
"""A JPEG with more pixels or more scans (which take time, each for the whole picture) is not plain."""
_LOST = re.compile(r"premature end of data|bad Huffman|found marker|extraneous bytes|Premature end of JPEG")
_STRAY = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_STRAY_BYTES_AT_MOST = 8
_NEXT_SEGMENT = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_FIRST_WITHOUT_LENGTH, _LAST_WITHOUT_LENGTH = 0xD0, 0xD9
_ZEROS = bytes(64)
"""More zeros than the coded data of a picture have in a row, unless its code of an empty block consists of zeros."""

_ADOBE_RGB = re.compile(
    rb"\x01\x00\x02\x00\x04\x00\x00\x00R03\0|\x00\x01\x00\x02\x00\x00\x00\x04R03\0"
    rb"|\x01\xa0\x03\x00\x01\x00\x00\x00\x02\x00|\xa0\x01\x00\x03\x00\x00\x00\x01\x00\x02"
)
"""In EXIF of either byte order: the interoperability index R03 (DCF 2.0, Adobe RGB), or the colour space 2."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the head of a JPEG states about its picture."""

    orientation: int = UPRIGHT
    profile: bytes = b""


def decode_jpeg(
    data: bytes,
    min_short_side: int | None,
    scratch: NDArray[np.uint8] | None,
    max_pixels: int | None,
    *,
    plain_only: bool,
    on_note: OnNote = ignore_note,
) -> Picture | None:
    """Decode a JPEG to upright sRGB; return ``None`` if it is unusual (CMYK, 12 bits) or its head is broken.

    With ``plain_only``, return ``None`` also for a JPEG that may take much memory or time.

    Raises:
        ImageError: pixels are lost, or there are too many.
    """
    header, data = _read_header(data, on_note)
    if header is None:
        return None
    height, width, colours = header
    check_size(width, height, max_pixels)
    head = jpeg_head(data)
    if colours not in ("YCbCr", "RGB", "Gray") or (plain_only and not _is_moderate(data, head, width * height)):
        return None
    target: dict[str, Any] = {}
    if scale := _decoding_scale(min(height, width), min_short_side):
        height, width = -(-height // scale), -(-width // scale)
        target = {"min_height": height, "min_width": width}
    if scratch is not None and 3 * height * width <= scratch.size:
        target["buffer"] = scratch
    decoded = _decode_intact(data, "RGB", target, on_note)
    if decoded is None:
        return None
    picture, data = decoded
    _check_zeros(data, len(head))
    facts = _read_facts(head)
    # The profile of a grey JPEG describes grey only, so it is not applied after decoding to RGB.
    if facts.profile and colours != "Gray" and transform_to_srgb(facts.profile, "RGB"):
        picture = np.asarray(to_srgb(Image.fromarray(picture), facts.profile), dtype=np.uint8)
    return turn_upright(picture, facts.orientation)


def is_plain_jpeg(data: bytes) -> bool:
    """Return whether decoding takes memory and time in proportion to a moderate number of pixels."""
    header = _stated_size(data)
    return header is not None and _is_moderate(data, jpeg_head(data), header[0] * header[1])


def _stated_size(data: bytes) -> tuple[int, int, str] | None:
    """Return the height, width and colours that a JPEG states; ``None`` for other files and if its head is broken."""
    if not data.startswith(JPEG_MAGIC):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return height, width, colours


def _is_moderate(data: bytes, head: bytes, n_pixels: int) -> bool:
    return n_pixels <= _PLAIN_PIXELS and (_PROGRESSIVE not in head or data.count(_SCAN_MARKER) <= _PLAIN_SCANS)


def make_intact(data: bytes, on_note: OnNote = ignore_note) -> bytes:
    """Return a JPEG without lost pixels, for decoders that do not report these; a missing end marker is added.

    Raises:
        ImageError: pixels are lost.
    """
    header, data = _read_header(data, on_note)
    if header is None:
        return data  # the decoder says what is wrong
    decoded = _decode_intact(data, "CMYK" if header[2] in ("CMYK", "YCCK") else "RGB", {}, on_note)
    data = data if decoded is None else decoded[1]
    _check_zeros(data, len(jpeg_head(data)))
    return data


def _read_header(data: bytes, on_note: OnNote) -> tuple[tuple[int, int, str] | None, bytes]:
    """Return height, width and colours of a JPEG (``None`` if its head is broken), and the JPEG without stray bytes.

    libjpeg skips bytes between the segments of the head with a warning, which would hide its other warnings.
    """
    try:
        return simplejpeg.decode_jpeg_header(data)[:3], data
    except ValueError as error:
        if "extraneous bytes before marker" not in str(error):
            return None, data
    mended = _drop_stray_bytes(data)
    try:
        header = simplejpeg.decode_jpeg_header(mended)[:3]
    except ValueError:
        return None, data
    on_note("the JPEG's head has stray bytes between its segments")
    return header, mended


def _drop_stray_bytes(data: bytes) -> bytes:
    """Return a JPEG without the bytes between the segments of its head."""
    kept, place = [data[:2]], 2
    while found := _NEXT_SEGMENT.search(data, place):
        start, place, kind = found.end() - 2, found.end(), found[1][0]
        if kind == _SCAN:
            return b"".join(kept) + data[start:]
        if not _FIRST_WITHOUT_LENGTH <= kind <= _LAST_WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
            kept.append(data[start:place])
    return data


def is_upright_srgb_jpeg(data: bytes, short_side: int) -> bool:
    """Return whether a file is a colour JPEG, upright and in sRGB, whose short side has at most that many pixels."""
    header = _stated_size(data)
    if header is None or min(header[:2]) > short_side or header[2] != "YCbCr":
        return False
    facts = _read_facts(jpeg_head(data))
    return facts.orientation == UPRIGHT and transform_to_srgb(facts.profile, "RGB") is None


def jpeg_head(data: bytes) -> bytes:
    """Return a JPEG up to its first scan, or all of it if no scan is found.

    The head is a small part of the file. It consists of segments: 0xFF, the kind, then the length in two bytes, which
    includes these two bytes.
    """
    place, last, kind = 2, len(data) - 4, 0
    while kind != _SCAN:
        if place > last or data[place] != _MARKER:
            return data
        kind = data[place + 1]
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return data[:place]


def _decode_intact(
    data: bytes, colorspace: str, target: dict[str, Any], on_note: OnNote
) -> tuple[Picture, bytes] | None:
    """Decode; return ``None`` if libjpeg cannot or warns of something else than lost data, else with the JPEG as read.

    Raises:
        ImageError: data are lost.
    """
    try:
        return simplejpeg.decode_jpeg(data, colorspace=colorspace, strict=True, **target), data
    except ValueError as error:
        warning = str(error)
    if not _LOST.search(warning):
        return None
    ended, note = _with_end(data, warning)
    for mended in ended:
        try:
            picture: Picture = simplejpeg.decode_jpeg(mended, colorspace=colorspace, strict=True, **target)
        except ValueError:
            continue
        on_note(note)
        return picture, mended
    stray = _STRAY.search(warning)
    if stray and int(stray[1]) <= _STRAY_BYTES_AT_MOST and _END in data[-_STRAY_BYTES_AT_MOST:]:
        on_note(f"the JPEG has {stray[1]} stray bytes before its end; a part of the picture may be wrong")
        return simplejpeg.decode_jpeg(data, colorspace=colorspace, strict=False, **target), data
    if "Premature end of JPEG" in warning:
        raise ImageError("image is truncated: the JPEG ends early")
    raise ImageError(f"image is damaged: data are lost within the JPEG ({warning.removeprefix('Corrupt JPEG data: ')})")


def _with_end(data: bytes, warning: str) -> tuple[list[bytes], str]:
    """Return the file with an end marker directly after its coded data, in the ways it may be meant, and a note."""
    if _STRAY.search(warning):
        body = data[: data.rfind(_END)]
        padding = body[-1:]
        return [body.rstrip(padding) + _END, body.rstrip(padding) + padding + _END], "padding before the JPEG's end"
    note = "the JPEG's end marker is missing; all pixels are there"
    body = data.rstrip(b"\0")
    return [data.removesuffix(b"\xff") + _END, body.removesuffix(b"\xff") + _END, body + b"\0" + _END], note


def _check_zeros(data: bytes, start: int) -> None:
    """Check that no part of the coded data is a run of zeros, which cards leave where they lost a block.

    Raises:
        ImageError: there is such a run, and the Huffman tables exclude that it is a flat part of the picture.
    """
    hole = data.find(_ZEROS, start)
    if hole < 0 or hole > data.find(_END, start) or _has_zero_code_for_flat(data[:start]):
        return
    raise ImageError(f"image is damaged: zero bytes within the JPEG, from byte {hole:,}")


def _has_zero_code_for_flat(head: bytes) -> bool:
    """Return whether zeros may stand for flat blocks: a table's first code ends a block, or the JPEG is progressive."""
    place, has_tables = 2, False
    while place + 4 <= len(head):
        kind, length = head[place + 1], head[place + 2] << 8 | head[place + 3]
        if kind == 0xC2:
            return True
        table = place + 4
        while kind == _TABLES and table + 17 <= place + 2 + length:
            has_tables = True
            if head[table] >> 4 == 1 and head[table + 17] == 0:  # an AC table; its first symbol has the code of zeros
                return True
            table += 17 + sum(head[table + 1 : table + 17])
        place += 2 + length
    return not has_tables


def _decoding_scale(short_side: int, min_short_side: int | None) -> int:
    """Return the largest of 2, 4 and 8 by which the picture may be reduced, or 0.

    libjpeg supports n/8 for every n, but uses SIMD for these only: 6/8 takes longer than the whole picture.
    """
    if min_short_side is None:
        return 0
    return next((scale for scale in (8, 4, 2) if short_side >= scale * min_short_side), 0)


def _read_facts(head: bytes) -> _Facts:
    """Return the orientation (EXIF, else XMP) and the colour profile (ICC, else DCF's Adobe RGB) in a JPEG's head."""
    has_profile = b"ICC_PROFILE\0" in head
    adobe = ADOBE_RGB if not has_profile and b"Exif" in head and _ADOBE_RGB.search(head) else b""
    if not has_profile and b"Exif" not in head and b"tiff:Orientation" not in head:
        return _Facts()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(head)) as image:
                profile = (image.info.get("icc_profile") or b"") if has_profile else adobe
                return _Facts(orientation=orientation_of(image), profile=profile)
    except (OSError, ValueError, TypeError, SyntaxError):
        return _Facts(profile=adobe)
