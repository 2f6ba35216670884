"""A decoded picture, the reason why a file does not give one, and the limits that hold for every format."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError

Picture = NDArray[np.uint8]
"""RGB pixels ``[H, W, 3]``."""

MAX_PIXELS = 300_000_000
"""Larger pictures are rejected undecoded (decompression bombs); 300 megapixels suffice for any camera."""

OnNote: TypeAlias = Callable[[str], None]
"""A function that is called with what a reader of the answer should know about the file."""


class ImageError(LinnaeaError):
    """Raised for a picture that cannot be used; the message is the reason, short enough for a table cell."""


def ignore_note(note: str) -> None:
    """Ignore a note."""


def pixel_limit(max_pixels: int | None) -> int:
    """Return ``max_pixels``, by default :data:`MAX_PIXELS`."""
    return MAX_PIXELS if max_pixels is None else max_pixels


def check_size(width: int, height: int, max_pixels: int | None = None) -> None:
    """Check the size of a picture before it is decoded.

    Raises:
        ImageError: it has no pixels, or more than ``max_pixels`` (default :data:`MAX_PIXELS`).
    """
    limit = pixel_limit(max_pixels)
    if width * height > limit:
        raise ImageError(f"too large: {width} x {height} pixels (limit {limit:,})")
    if width <= 0 or height <= 0:
        raise ImageError("has no pixels")
