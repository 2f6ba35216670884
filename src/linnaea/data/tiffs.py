"""TIFFs of microscopes, scanners and cameras, read by their tags with tifffile.

Pillow reads TIFFs of 8 bits. Of deeper samples it keeps the upper 8 bits, of several channels the first, and it takes
separate planes for one. Such files are read here, or refused with a reason.
"""

import io
import math
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, PREDICTOR, TiffFile, TiffFileError, TiffPage

from linnaea.data.colours import to_srgb
from linnaea.data.depth import on_white, to_bytes
from linnaea.data.file_kinds import note_hole
from linnaea.data.jpegs import make_intact
from linnaea.data.picture import ImageError, OnNote, Picture, check_size

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_DNG_VERSION, _MAX_SAMPLE, _SMAX_SAMPLE, _PROFILE, _ORIENTATION = 50706, 281, 341, 34675, 274
_RAW_COMPRESSION = {32767, 34713, 65535}  # Sony, Nikon, Pentax
_RAW_PHOTOMETRIC = {PHOTOMETRIC.CFA, PHOTOMETRIC.LINEAR_RAW}
_REDUCED, _MASK = 1, 4
_BIG_BIG_ENDIAN = b"MM\0+"
_DEFLATED = {COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE}
_UNPACKED_HERE = {COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.PACKBITS, *_DEFLATED}
_CODED = {COMPRESSION.LZW, COMPRESSION.JPEG, COMPRESSION.ZSTD, COMPRESSION.WEBP, COMPRESSION.LZMA, *_DEFLATED}
"""Compressions that leave no long runs of one byte."""
_BY_LIBTIFF = {COMPRESSION.LZW: 5, COMPRESSION.ZSTD: 50000}
"""Compressions of bytes that tifffile leaves to a package of 26 MB."""
_UNASSOCIATED, _ASSOCIATED = 2, 1
_FIRST_PAGES = 16
"""Pages among which the picture is looked for."""


def read_tiff(data: bytes, max_pixels: int | None, on_note: OnNote) -> tuple[Picture, int] | int:
    """Return the picture of a TIFF with its orientation, or the number of the page that Pillow reads rightly.

    Raises:
        ImageError: the file has several channels, a kind of samples that is not light, or is broken.
    """
    try:
        with TiffFile(io.BytesIO(data), name="") as tiff:
            number, page = _choose_page(tiff)
            _check_channels(tiff, page)
            if (n_pages := _n_pages(tiff, number, page)) > 1:
                on_note(f"the first of {n_pages} pictures in the file")
            check_size(page.imagewidth, page.imagelength, max_pixels)
            _check_bands(page, on_note)
            if _is_left_to_pillow(data, page):
                _check_strips(data, page, on_note)
                return number
            _check_whole(page, len(data))
            samples = page.asarray() if page.compression not in _BY_LIBTIFF else _read_by_libtiff(data, number, page)
            picture = _to_picture(page, samples, _stated_range(tiff, page), on_note)
            tag = page.tags.get(_ORIENTATION)
            return picture, int(tag.value) if tag and isinstance(tag.value, int) else 0
    except (ImageError, MemoryError):
        raise
    except TiffFileError as error:
        raise ImageError(f"image is broken: {error} (TIFF)") from error
    except Exception as error:  # tifffile raises many kinds on broken files and on what it does not read
        raise ImageError(f"this TIFF cannot be read: {' '.join(str(error).split())[:150]}") from error


def _is_left_to_pillow(data: bytes, page: TiffPage) -> bool:
    """Return whether Pillow reads a page rightly: with 8 bits, unless they are signed or have further planes."""
    if page.photometric == PHOTOMETRIC.PALETTE or page.bitspersample not in (8, 16, 32, 64):
        return True
    is_plain = page.bitspersample == 8 and page.sampleformat == 1
    has_more_planes = page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 3
    unknown = (page.photometric == PHOTOMETRIC.RGB and has_more_planes) or data.startswith(_BIG_BIG_ENDIAN)
    return is_plain and not (unknown and page.compression in _UNPACKED_HERE)


def _check_strips(data: bytes, page: TiffPage, on_note: OnNote) -> None:
    """Check what libtiff does not: the checksums of deflated strips and tiles, the warnings of JPEGs, runs of one byte.

    Raises:
        ImageError: data are lost.
    """
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if max((at + size for at, size in places), default=0) > len(data):
        on_note("the file is shorter than it states; a part of the picture may be lost")
    if page.compression not in _CODED:
        return
    for at, size in places:
        strip = data[at : at + size]
        note_hole(strip, on_note)
        if page.compression in _DEFLATED:
            try:
                zlib.decompressobj().decompress(strip)
            except zlib.error as error:
                raise ImageError("image is damaged: a checksum or code of the TIFF is wrong") from error
        elif page.compression == COMPRESSION.JPEG:
            make_intact(page.jpegtables[:-2] + strip[2:] if page.jpegtables else strip)


def is_raw_tiff(data: bytes) -> bool:
    """Return whether a TIFF holds a camera's raw samples (DNG, NEF, ARW ...), of which Pillow reads a thumbnail."""
    try:
        with TiffFile(io.BytesIO(data), name="") as tiff:
            first = tiff.pages[0]
            pages = [first, *(first.pages or ())][:16]
            return any(_is_raw(page) for page in pages)
    except Exception:
        return False


def raw_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the raw picture in a TIFF-like raw file; zeros if not known."""
    try:
        with TiffFile(io.BytesIO(data), name="") as tiff:
            pages = [page for first in tiff.pages for page in (first, *(first.pages or ()))][:16]
            sizes = [(page.imagewidth, page.imagelength) for page in pages if isinstance(page, TiffPage)]
            return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    except Exception:
        return 0, 0


def _is_raw(page: Any) -> bool:
    return page.photometric in _RAW_PHOTOMETRIC or _DNG_VERSION in page.tags or page.compression in _RAW_COMPRESSION


def _choose_page(tiff: TiffFile) -> tuple[int, TiffPage]:
    """Return the first page that is a whole picture and not a thumbnail or a mask, with its number.

    A page is a thumbnail if it says so, or if the next one has the same shape and is at least twice as large.

    Raises:
        ImageError: there is none.
    """
    if not len(tiff.pages):
        raise ImageError("image is truncated: it has no directory (TIFF)")
    pages = [page if isinstance(page, TiffPage) else page.aspage() for page in tiff.pages[:_FIRST_PAGES]]
    whole = [(number, page) for number, page in enumerate(pages) if not page.subfiletype & (_REDUCED | _MASK)]
    if len(whole) > 1 and _is_thumbnail_of(whole[0][1], whole[1][1]):
        return whole[1]
    return whole[0] if whole else (0, pages[0])


def _is_thumbnail_of(page: TiffPage, other: TiffPage) -> bool:
    factor = other.imagewidth / max(page.imagewidth, 1)
    return factor >= 2 and abs(other.imagelength / factor - page.imagelength) <= 1


def _n_pages(tiff: TiffFile, number: int, page: TiffPage) -> int:
    """Return the number of pictures of the same size in the file: pages, layers of a stack, times."""
    if tiff.is_imagej or tiff.is_ome:
        sizes = tiff.series[0].sizes
        return math.prod(n for axis, n in sizes.items() if axis not in ("width", "height", "sample", "channel"))
    try:
        following: Any = tiff.pages[number + 1]
    except IndexError:
        return 1
    alike = following.shape == page.shape and not int(following.subfiletype) & (_REDUCED | _MASK)
    return len(tiff.pages) if alike else 1


def _check_channels(tiff: TiffFile, page: TiffPage) -> None:
    """Refuse files whose colours lie in several pages, as microscopes write them.

    Raises:
        ImageError: the file has several channels.
    """
    if page.imagedepth > 1:
        raise ImageError(f"a volume of {page.imagedepth} layers, not a picture (TIFF); export one layer as RGB")
    if not (tiff.is_imagej or tiff.is_ome or tiff.is_lsm or tiff.is_stk or tiff.is_fluoview or tiff.is_micromanager):
        return
    sizes = tiff.series[0].sizes
    if (n_channels := sizes.get("channel", 1)) > 1:
        kind = "OME" if tiff.is_ome else "ImageJ" if tiff.is_imagej else "microscope"
        raise ImageError(
            f"several channels ({n_channels}) of a microscope, not a picture ({kind} TIFF); export it as RGB"
        )


def _check_bands(page: TiffPage, on_note: OnNote) -> None:
    """Refuse pictures whose bands are not colours, and note a band besides red, green and blue.

    Raises:
        ImageError: the bands have no stated colours.
    """
    n_bands = page.samplesperpixel
    if page.photometric in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE) and n_bands > 2:
        raise ImageError(f"{n_bands} bands, not a picture (TIFF); export three of them as RGB")
    n_others = n_bands - 3 - (_alpha(page, n_bands - 3) is not None)
    if page.photometric == PHOTOMETRIC.RGB and n_others > 0:
        on_note(f"read from the bands red, green and blue; {n_others} more left out")


def _check_whole(page: TiffPage, n_bytes: int) -> None:
    ends = [at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
    is_short = len(page.dataoffsets) != len(page.databytecounts) or 0 in page.databytecounts
    if is_short or not ends or max(ends) > n_bytes:
        raise ImageError("image is truncated (TIFF)")


def _stated_range(tiff: TiffFile, page: TiffPage) -> tuple[float, float]:
    """Return the values of black and white that the file states, zeros if it states none."""
    if tiff.is_imagej and (facts := tiff.imagej_metadata):
        low, top = (float(facts.get(name, 0) or 0) for name in ("min", "max"))
        if top > low >= 0:
            return low, top
    if tiff.is_ome and (found := re.search(r'SignificantBits="(\d+)"', tiff.ome_metadata or "")):
        return 0, 2.0 ** int(found[1]) - 1
    stated = [page.tags[tag].value for tag in (_MAX_SAMPLE, _SMAX_SAMPLE) if tag in page.tags]
    return 0, max((_largest(value) for value in stated), default=0)


def _largest(value: Any) -> float:
    return float(max(value)) if isinstance(value, Sequence) else float(value)


def _to_picture(page: TiffPage, samples: NDArray[Any], stated: tuple[float, float], on_note: OnNote) -> Picture:
    """Return RGB in 8 bits from the samples of a page, ``[H, W]``, ``[H, W, S]`` or ``[S, H, W]``."""
    if page.axes.startswith("S"):
        samples = np.moveaxis(samples, 0, -1)
    samples = samples[..., None] if samples.ndim == 2 else samples
    colour: Any = page.photometric
    n_colours = {PHOTOMETRIC.MINISWHITE: 1, PHOTOMETRIC.MINISBLACK: 1, PHOTOMETRIC.RGB: 3, PHOTOMETRIC.SEPARATED: 4}
    n_expected = n_colours.get(colour, 0)
    if not n_expected or samples.shape[-1] < n_expected:
        raise ImageError(f"the colours of this TIFF are not read ({getattr(colour, 'name', colour)}, 16 bits or more)")
    alpha = _alpha(page, samples.shape[-1] - n_expected)
    low, top = stated
    light = samples[..., :n_expected]
    values = to_bytes(light, stated_top=top, low=low, on_note=on_note)
    if colour == PHOTOMETRIC.MINISWHITE:
        values = 255 - values
    image = Image.fromarray(values[..., 0] if n_expected == 1 else values, "CMYK" if n_expected == 4 else None)
    profile = page.tags[_PROFILE].value if _PROFILE in page.tags else b""
    rgb = image.convert("RGB") if n_expected == 1 else to_srgb(image, profile)
    if alpha is None:
        return np.asarray(rgb, np.uint8)
    return on_white(np.asarray(rgb), samples[..., n_expected], associated=alpha == _ASSOCIATED)


def _alpha(page: TiffPage, n_extra: int) -> int | None:
    """Return the kind of the first extra sample if it is transparency."""
    kinds = [int(kind) for kind in page.extrasamples or ()]
    return kinds[0] if n_extra and kinds and kinds[0] in (_ASSOCIATED, _UNASSOCIATED) else None


def _read_by_libtiff(data: bytes, number: int, page: TiffPage) -> NDArray[Any]:
    """Return the samples of a page whose compression tifffile leaves to another package.

    Each strip or tile is unpacked by libtiff as a row of bytes; tifffile then reads the page as if not compressed.
    """
    code = _BY_LIBTIFF[COMPRESSION(page.compression)]
    places = enumerate(zip(page.dataoffsets, page.databytecounts, strict=True))
    strips = [_unpack_strip(data[at : at + size], code, page, number) for number, (at, size) in places]
    with TiffFile(io.BytesIO(data + b"".join(strips)), name="") as tiff:
        whole: Any = tiff.pages[number]
        sizes = [len(strip) for strip in strips]
        whole.dataoffsets = tuple(len(data) + sum(sizes[:place]) for place in range(len(sizes)))
        whole.databytecounts, whole.compression, whole.predictor = tuple(sizes), COMPRESSION.NONE, PREDICTOR.NONE
        return np.asarray(whole.asarray())


def _unpack_strip(strip: bytes, code: int, page: TiffPage, number: int) -> bytes:
    """Return the bytes of a strip or tile, with differences (predictor 2) summed up along the rows."""
    n_samples = 1 if page.planarconfig == PLANARCONFIG.SEPARATE else page.samplesperpixel
    rows, width = page.tilelength, page.tilewidth
    if not page.is_tiled:
        n_strips = -(-page.imagelength // page.rowsperstrip)
        width = page.imagewidth
        rows = min(page.rowsperstrip, page.imagelength - number % n_strips * page.rowsperstrip)
    content = _unpack(strip, code, page.bitspersample // 8 * n_samples * rows * width)
    if page.predictor not in (PREDICTOR.NONE, PREDICTOR.HORIZONTAL):
        raise ImageError("this TIFF cannot be read: differences of floating point; save it without compression")
    if page.predictor == PREDICTOR.NONE:
        return content
    kind = np.dtype(f"{page.parent.byteorder}u{page.bitspersample // 8}")
    steps = np.frombuffer(content, kind).reshape(rows, width, n_samples)
    return steps.cumsum(axis=1, dtype=kind.newbyteorder("=")).astype(kind).tobytes()


def _unpack(strip: bytes, compression: int, n_bytes: int) -> bytes:
    """Return the bytes of a strip, which is put into a TIFF of one grey row."""
    entries = [(256, 4, n_bytes), (257, 4, 1), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 0),
               (277, 3, 1), (278, 4, 1), (279, 4, len(strip))]  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    entries[5] = (273, 4, start)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    with Image.open(io.BytesIO(head + strip)) as image:
        return image.tobytes()
