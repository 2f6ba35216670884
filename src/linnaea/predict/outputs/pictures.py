"""Photographs as pages show them."""

import cv2
import numpy as np

from linnaea.data.images import Picture


def make_small_jpeg(picture: Picture, longest: int, *, quality: int = 80) -> bytes:
    """Return a JPEG of a picture whose longer side has at most ``longest`` pixels, without any metadata."""
    scale = longest / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(jpeg.tobytes())
