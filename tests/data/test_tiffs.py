"""What instruments write is read as it was meant, or refused with the reason; never named from wrong pixels."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from drawn_scene import GREY, SCENE, difference, dng, jpeg, tiff
from PIL import Image

from linnaea.data.images import ImageError, decode, decode_noted_here, prepare, squash

RGB_16, GREY_16 = SCENE.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257
GREY_12 = (GREY.astype(np.uint32) * 4095 // 255).astype(np.uint16)


def planes(samples: np.ndarray) -> np.ndarray:
    return np.moveaxis(samples, -1, 0)


def lzw(samples: np.ndarray) -> bytes:
    """Return a TIFF by libtiff, with differences along the rows."""
    pixels = samples[..., ::-1] if samples.ndim == 3 else samples
    return cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 7])[
        1
    ].tobytes()


def by_pillow(compression: str) -> bytes:
    """Return a TIFF of 8 bits in strips."""
    stream = io.BytesIO()
    Image.fromarray(SCENE).save(stream, "TIFF", compression=compression)
    return stream.getvalue()


def lose_sector(data: bytes, instead: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + instead * 512 + data[place + 512 :]


def _with_thumbnail(subfiletype: int = 1) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(255 - SCENE[::4, ::4], photometric="rgb", subfiletype=subfiletype, metadata=None)
        writer.write(SCENE, photometric="rgb", metadata=None)
    return stream.getvalue()


READ: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "16 bits": (lambda: tiff(RGB_16, photometric="rgb"), SCENE),
    "16 bits by planes": (lambda: tiff(planes(RGB_16), photometric="rgb", planarconfig="separate"), SCENE),
    "16 bits by planes, deflated": (
        lambda: tiff(planes(RGB_16), photometric="rgb", planarconfig="separate", compression="zlib", predictor=True),
        SCENE,
    ),
    "16 bits in tiles": (lambda: tiff(RGB_16, photometric="rgb", tile=(32, 48)), SCENE),
    "16 bits, big-endian": (lambda: tiff(RGB_16, photometric="rgb", byteorder=">"), SCENE),
    "BigTIFF": (lambda: tiff(RGB_16, photometric="rgb", bigtiff=True), SCENE),
    "16 bits, LZW": (lambda: lzw(RGB_16), SCENE),
    "grey of 16 bits, LZW": (lambda: lzw(GREY_16), GREY),
    "12 bits in 16": (lambda: tiff(GREY_12), GREY),
    "colours of 12 bits in 16": (lambda: tiff(RGB_16 >> 4, photometric="rgb"), SCENE),
    "14 bits in 16": (lambda: tiff(GREY_16 >> 2), GREY),
    "10 bits in 16": (lambda: tiff(GREY_16 >> 6), GREY),
    "8 bits in 16": (lambda: tiff(GREY.astype(np.uint16)), GREY),
    "white is zero": (lambda: tiff(65_535 - GREY_16, photometric="miniswhite"), GREY),
    "white is zero, 12 bits": (lambda: tiff(4095 - GREY_12, photometric="miniswhite"), GREY),
    "white is zero, 8 bits": (lambda: tiff(255 - GREY, photometric="miniswhite"), GREY),
    "floats up to 1": (lambda: tiff(GREY.astype(np.float32) / 255), GREY),
    "floats up to 255": (lambda: tiff(GREY.astype(np.float32)), GREY),
    "colours of half floats": (lambda: tiff((SCENE / 255).astype(np.float16), photometric="rgb"), SCENE),
    "32 bits": (lambda: tiff(GREY.astype(np.uint32) * 16_843_009), GREY),
    "signed 16 bits": (lambda: tiff((GREY.astype(np.int32) * 32_767 // 255).astype(np.int16)), GREY),
    "CMYK of 16 bits": (
        lambda: tiff(65_535 - np.dstack([RGB_16, np.full_like(GREY_16, 65_535)]), photometric="separated"), SCENE,
    ),
    "transparency of 16 bits": (
        lambda: tiff(np.dstack([RGB_16, GREY_16 * 0 + 65_535]), photometric="rgb", extrasamples=["unassalpha"]),
        SCENE,
    ),
    "infrared besides the colours": (
        lambda: tiff(np.dstack([RGB_16, GREY_16]), photometric="rgb", extrasamples=["unspecified"]), SCENE,
    ),
    "ImageJ, colours": (lambda: tiff(SCENE, imagej=True, photometric="rgb"), SCENE),
    "ImageJ, its own range": (
        lambda: tiff(GREY_12 + 100, imagej=True, metadata={"min": 100.0, "max": 4195.0}), GREY,
    ),
    "OME, colours": (lambda: tiff(RGB_16, ome=True, photometric="rgb", metadata={"axes": "YXS"}), SCENE),
    "OME, significant bits": (
        lambda: tiff(GREY_16 >> 6, ome=True, metadata={"axes": "YX", "SignificantBits": 12}), GREY // 4,
    ),
    "a thumbnail before the picture": (_with_thumbnail, SCENE),
    "a thumbnail that does not say so": (lambda: _with_thumbnail(0), SCENE),
    "8 bits, big-endian BigTIFF": (lambda: tiff(SCENE, photometric="rgb", bigtiff=True, byteorder=">"), SCENE),
    "signed 8 bits": (lambda: tiff((GREY // 2).astype(np.int8)), GREY),
    "infrared besides planes of 8 bits": (
        lambda: tiff(planes(np.dstack([SCENE, GREY])), photometric="rgb", planarconfig="separate",
                     extrasamples=["unspecified"]), SCENE,
    ),
    "12 bits, transparency of 16": (
        lambda: tiff(np.dstack([RGB_16 >> 4, GREY_16 * 0 + 65_535]), photometric="rgb", extrasamples=["unassalpha"]),
        SCENE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_the_scene_comes_out_in_its_own_light(kind: str) -> None:
    make, expected = READ[kind]
    assert difference(decode_noted_here(make(), None, None)[0], expected) < 1


def test_data_sets_store_the_scene() -> None:
    stored = decode(prepare(tiff(planes(RGB_16), photometric="rgb", planarconfig="separate")).jpeg)
    assert difference(stored, SCENE) < 12  # a JPEG of sharp stripes


def test_squashed_data_sets_store_it_too() -> None:
    small = np.asarray(Image.fromarray(SCENE).resize((224, 224), Image.Resampling.BICUBIC))
    for data in (tiff(planes(RGB_16), photometric="rgb", planarconfig="separate"), dng((640, 480), jpeg(640, 480))):
        assert difference(decode(squash(data).jpeg), small) < 8


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "ImageJ, channels": (lambda: tiff(planes(RGB_16), imagej=True, metadata={"axes": "CYX"}), "3.*ImageJ"),
    "ImageJ, channels of 8 bits": (
        lambda: tiff(np.ascontiguousarray(planes(SCENE)), imagej=True, metadata={"axes": "CYX"}), "3.*ImageJ",
    ),
    "OME, channels": (
        lambda: tiff(planes(RGB_16), ome=True, metadata={"axes": "CYX"}, photometric="minisblack"), "3.*OME",
    ),
    "five bands": (
        lambda: tiff(np.dstack([RGB_16, GREY_16, GREY_16]), photometric="minisblack", planarconfig="contig"), "5 bands",
    ),
    "five bands of 8 bits": (
        lambda: tiff(np.dstack([SCENE, GREY, GREY]), photometric="minisblack", planarconfig="contig"), "5 bands",
    ),
    "heights below zero": (lambda: tiff(GREY.astype(np.int16) - 100), "below zero"),
    "complex numbers": (lambda: tiff(GREY.astype(np.complex64)), "complex"),
    "layers": (lambda: tiff(np.stack([GREY_16] * 16), volumetric=True, tile=(16, 16, 16)), "16 layers"),
    "cut short": (lambda: tiff(RGB_16, photometric="rgb")[:-5000], "truncated"),
    "cut short, LZW": (lambda: lzw(RGB_16)[:-100], "truncated"),
    "cut before its directory": (lambda: by_pillow("tiff_lzw")[:900], "truncated.*TIFF"),
    "deflated, zeros": (lambda: lose_sector(by_pillow("tiff_adobe_deflate"), b"\0"), "damaged.*TIFF"),
    "deflated, ones": (lambda: lose_sector(by_pillow("tiff_adobe_deflate"), b"\xff"), "damaged.*TIFF"),
    "JPEG within, zeros": (lambda: lose_sector(by_pillow("jpeg"), b"\0"), "damaged.*JPEG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_picture_is_refused_with_its_reason(kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(ImageError, match=reason):
        decode_noted_here(make(), None, None)


NOTED: dict[str, tuple[Callable[[], bytes], str]] = {
    "depth": (lambda: tiff(GREY_12), "12 bits per sample in 16"),
    "sectors of ones": (lambda: lose_sector(by_pillow("zstd"), b"\xff"), "a run of 0xff bytes"),
    "shorter": (lambda: tiff(SCENE[:100], photometric="rgb", tile=(64, 64))[:-10], "shorter than it states"),
    "pages": (lambda: _pages(GREY_16, GREY_16, GREY_16), "first of 3"),
    "pages of 8 bits": (lambda: _pages(GREY, GREY), "first of 2"),
    "a stack": (lambda: tiff(np.stack([GREY_16] * 4), imagej=True, metadata={"axes": "ZYX"}), "first of 4"),
    "bands": (lambda: tiff(np.dstack([RGB_16, GREY_16]), photometric="rgb", extrasamples=["unspecified"]), "1 more"),
}


def _pages(*pages: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", metadata=None)
    return stream.getvalue()


@pytest.mark.parametrize("kind", NOTED)
def test_what_a_reader_of_the_answer_should_know_is_noted(kind: str) -> None:
    make, note = NOTED[kind]
    assert note in "; ".join(decode_noted_here(make(), None, None)[1])


def test_a_stated_range_counts_more_than_the_samples() -> None:
    dark = tiff(GREY_12, extratags=[(281, 3, 1, 65_535, True)])
    assert difference(decode_noted_here(dark, None, None)[0], GREY // 16) < 1


def test_png_of_16_bits_follows_the_same_rule() -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY_12).save(stream, "PNG")
    assert difference(decode(stream.getvalue()), GREY) < 1
    colours = cv2.imencode(".png", (RGB_16 >> 4)[..., ::-1])[1].tobytes()
    assert difference(decode_noted_here(colours, None, None)[0], SCENE) < 1
    full = cv2.imencode(".png", RGB_16[..., ::-1])[1].tobytes()
    assert difference(decode_noted_here(full, None, None)[0], SCENE) < 1
