"""A raw photograph is answered from a preview that shows all of it, with a note; never from its thumbnail."""

import numpy as np
import pytest
from drawn_scene import SCENE, difference, dng, jpeg
from PIL import Image

from linnaea.data.images import ImageError, decode, decode_noted_here

PREVIEW = jpeg(640, 480)
FUJI, CANON = b"FUJIFILMCCD-RAW " + bytes(100), b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(99)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (dng((640, 480), PREVIEW), "640 x 480"),
        (dng((6000, 40), jpeg(1616, 1080)), "1616 x 1080 pixels of 6000 x 40"),
        (FUJI + jpeg(1200, 900), "Fujifilm raw photograph, 1200 x 900"),
        (CANON + jpeg(160, 120) + jpeg(1600, 1200), "Canon raw photograph, 1600 x 1200"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(90) + jpeg(1600, 1200), "Canon raw photograph, 1600 x 1200"),
        (b"IIRO\x08\0\0\0" + bytes(99) + jpeg(1600, 1200), "Olympus raw photograph, 1600 x 1200"),
    ],
)
def test_the_largest_preview_is_read_and_its_size_noted(data: bytes, size: str) -> None:
    picture, (note,) = decode_noted_here(data, None, None)
    assert size in note
    shown = np.asarray(Image.fromarray(picture).resize((160, 120)))
    assert difference(shown, SCENE) < 12


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dng((640, 480)), "raw photograph without a preview"),
        (dng((640, 480), jpeg(320, 240)), r"thumbnail only \(320 x 240"),
        (FUJI + jpeg(160, 120), "Fujifilm raw photograph with a thumbnail"),
        (b"IIU\0\x08\0\0\0" + bytes(99), "Panasonic raw photograph"),
    ],
)
def test_a_thumbnail_is_not_the_photograph(data: bytes, reason: str) -> None:
    for read in (decode, lambda data: decode_noted_here(data, None, None)):
        with pytest.raises(ImageError, match=reason):
            read(data)


def test_a_preview_without_orientation_is_turned_as_the_raw_file_says() -> None:
    assert decode(dng((640, 480), PREVIEW, orientation=6)).shape == (640, 480, 3)


def test_a_damaged_preview_is_an_error() -> None:
    cut = PREVIEW[: len(PREVIEW) // 2]
    with pytest.raises(ImageError, match="raw photograph"):
        decode(dng((640, 480), cut))
