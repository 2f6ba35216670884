"""What Pillow leaves out about PNGs: the checksums of their pixels, and how many of 16 bits are used."""

import struct
import zlib

import cv2
import numpy as np

from linnaea.data.depth import on_white, range_of, to_bytes
from linnaea.data.picture import ImageError, OnNote, Picture

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_DEEP_COLOURS = (b"\x10\2", b"\x10\4", b"\x10\6")
"""16 bits, and the kind of colours: RGB, grey with transparency, RGB with transparency."""
_DIM = 2**14
"""A 16-bit picture without a larger sample is shown by the range it uses."""


def check_png(data: bytes) -> None:
    """Check the checksums of a PNG's pixels, which Pillow skips.

    Raises:
        ImageError: a checksum is wrong.
    """
    if not data.startswith(PNG_MAGIC):
        return
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        is_whole = data[place + 4 : place + 8] == b"IDAT" and end + 4 <= len(data)
        if is_whole and zlib.crc32(memoryview(data)[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError("image is damaged: a checksum of the PNG is wrong")
        place = end + 4


def decode_dim_png(data: bytes, on_note: OnNote) -> Picture | None:
    """Return the pixels of a PNG of 16 bits that uses fewer, on white; Pillow would show the upper 8 of the 16.

    Grey without transparency is left to Pillow, which gives all 16 bits.
    """
    if not data.startswith(PNG_MAGIC) or data[24:26] not in _DEEP_COLOURS:
        return None
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.ndim != 3 or range_of(samples[..., :3]) > _DIM:
        return None
    picture = to_bytes(np.ascontiguousarray(samples[..., 2::-1]), on_note=on_note)
    return on_white(picture, samples[..., 3]) if samples.shape[2] == 4 else picture
