"""A drawn scene, in the many forms that cameras and instruments write."""

import io
from typing import Any

import numpy as np
import tifffile
from PIL import Image

_ROWS, _COLUMNS = np.mgrid[:120, :160]
SCENE = np.stack([_COLUMNS * 255 // 159, _ROWS * 255 // 119, _COLUMNS // 8 % 2 * 200], axis=-1).astype(np.uint8)
"""RGB ``[120, 160, 3]``: red grows to the right, green downwards, blue in stripes."""
GREY = SCENE.mean(axis=-1).astype(np.uint8)


def jpeg(width: int = 160, height: int = 120, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(SCENE).resize((width, height)).save(stream, "JPEG", **{"quality": 92, **options})
    return stream.getvalue()


def tiff(samples: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def dng(raw: tuple[int, int], preview: bytes = b"", orientation: int = 1) -> bytes:
    """Return a raw file of ``raw`` (width, height) with a thumbnail of 40 x 30 pixels and, if given, a preview."""
    stream = io.BytesIO()
    tags = [(50706, 1, 4, b"\1\4\0\0", True), (274, 3, 1, orientation, True)]
    with tifffile.TiffWriter(stream) as writer:
        writer.write(SCENE[::4, ::4], photometric="rgb", subfiletype=1, subifds=1, extratags=tags, metadata=None)
        pattern = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]
        mosaic = np.zeros((raw[1], raw[0]), np.uint16)
        writer.write(mosaic, photometric=32803, subfiletype=0, metadata=None, extratags=pattern)
    return stream.getvalue() + preview


def difference(picture: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean difference of two pictures; a grey one stands for three equal channels."""
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert picture.shape == expected.shape
    return float(np.abs(picture.astype(int) - expected).mean())
