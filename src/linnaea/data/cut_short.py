"""Tell whether a file ends before the end that its own structure states."""

import io
import os
from typing import BinaryIO

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"jP  ")


def is_cut_short(file: BinaryIO, size: int) -> bool:
    """Return whether the outermost structure of a file ends behind the file's end.

    This is known of MP4 and its kin (HEIC, AVIF, JPEG 2000), AVI, WebP, Matroska and TIFF; of others it is false.
    """
    file.seek(0)
    head = file.read(64)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little") > size + 1
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska_end(head) > size
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_end(file, head) > size
    if head[4:8] not in _BOXES:
        return False
    place = 0
    while place + 8 <= size:
        file.seek(place)
        box = file.read(16)
        length = int.from_bytes(box[:4], "big")
        length = int.from_bytes(box[8:16], "big") if length == 1 else length or size - place
        if length < 8:
            return False
        place += length
    return place > size


def _tiff_end(file: BinaryIO, head: bytes) -> int:
    """Return where the first directory of a TIFF ends."""
    order = "little" if head[:2] == b"II" else "big"
    place = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
    file.seek(place)
    n_entries = int.from_bytes(file.read(2), order)  # type: ignore[arg-type]
    return place + 2 + 12 * n_entries + 4


def _matroska_end(head: bytes) -> int:
    """Return where the segment of a Matroska file ends, 0 if it does not say."""
    stream = io.BytesIO(head)
    for _ in range(2):
        name, _ = _read_number(stream, keep_mark=True)
        length, is_unknown = _read_number(stream)
        if name == 0x18538067:
            return 0 if is_unknown else stream.tell() + length
        stream.seek(length, os.SEEK_CUR)
    return 0


def _read_number(stream: io.BytesIO, *, keep_mark: bool = False) -> tuple[int, bool]:
    """Return the next number of variable length (RFC 8794, section 4), and whether all its bits are ones."""
    first = (stream.read(1) or b"\1")[0]
    n_bytes = 9 - first.bit_length()
    rest = int.from_bytes(stream.read(n_bytes - 1), "big")
    value = (first if keep_mark else first & ((1 << 8 - n_bytes) - 1)) << 8 * (n_bytes - 1) | rest
    return value, value == (1 << 7 * n_bytes) - 1
