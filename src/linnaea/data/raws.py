"""Raw photographs, through the largest JPEG that the camera put into them.

Raw samples are not developed here. Every raw format holds ordinary JPEGs; the largest one is the camera's own picture.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import suppress

import simplejpeg
from PIL import Image

from linnaea.data.file_kinds import RAW_KINDS, kind_of
from linnaea.data.jpegs import JPEG_MAGIC
from linnaea.data.picture import ImageError, OnNote
from linnaea.data.tiffs import TIFF_MAGIC, is_raw_tiff, raw_size

_LEAST_LONG_SIDE = 1_000
"""A preview of that many pixels is enough for every model, whatever the size of the raw picture."""
_FULL = 0.9
"""A preview with this share of the raw picture's long side shows all of it; cameras crop a few pixels."""
_CANDIDATES_AT_MOST = 64


def is_raw(data: bytes) -> bool:
    """Return whether a file is a camera's raw photograph."""
    return kind_of(data) in RAW_KINDS or (data.startswith(TIFF_MAGIC) and is_raw_tiff(data))


def find_preview(data: bytes, on_note: OnNote) -> tuple[bytes, int]:
    """Return the largest JPEG in a raw file with the raw file's orientation (0 if the JPEG states its own).

    Raises:
        ImageError: there is none, or only a thumbnail.
    """
    kind = f"{kind_of(data) if kind_of(data) in RAW_KINDS else 'raw'} photograph"
    raw = raw_size(data)
    place, size = max(_iter_jpegs(data), key=lambda found: found[1][0] * found[1][1], default=(0, (0, 0)))
    if not place:
        raise ImageError(f"{kind} without a preview; develop it to JPEG or TIFF first")
    words = f"{size[0]} x {size[1]} pixels"
    if max(size) < _LEAST_LONG_SIDE and (not max(raw) or max(size) < _FULL * max(raw)):
        raise ImageError(f"{kind} with a thumbnail only ({words}); develop it to JPEG or TIFF first")
    of_raw = f" of {raw[0]} x {raw[1]}" if max(raw) > max(size) else ""
    on_note(f"read from the preview in the {kind}, {words}{of_raw}")
    jpeg = data[place:]
    return jpeg, _orientation(data) if _orientation(jpeg) == 0 else 0


def _iter_jpegs(data: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield place and size (width, height) of the JPEGs within a file that an ordinary decoder reads."""
    place = data.find(JPEG_MAGIC)
    for _ in range(_CANDIDATES_AT_MOST):
        if place < 0:
            return
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data[place : place + 1_000_000])
            if colours in ("YCbCr", "RGB", "Gray"):
                simplejpeg.decode_jpeg(data[place:], colorspace="GRAY", min_height=1, min_width=1)
                yield place, (width, height)
        except ValueError:
            pass  # the raw samples themselves are often a lossless JPEG
        place = data.find(JPEG_MAGIC, place + 2)


def _orientation(data: bytes) -> int:
    """Return the EXIF orientation of a file that begins as TIFF or JPEG, 0 if it states none."""
    exif = Image.Exif()
    with warnings.catch_warnings(), suppress(Exception):  # EXIF of a raw format may be anything
        warnings.simplefilter("ignore")
        if data.startswith(JPEG_MAGIC):
            with Image.open(io.BytesIO(data)) as image:
                return int(image.getexif().get(0x0112, 0))
        magic = b"II*\0" if data[:2] == b"II" else b"MM\0*"  # Olympus and Panasonic write another number
        exif.load(b"Exif\0\0" + magic + data[4:1_000_000])
        return int(exif.get(0x0112, 0))
    return 0
