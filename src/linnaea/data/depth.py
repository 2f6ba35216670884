"""Samples of more than 8 bits (or of floating point) as bytes, by the range that the file uses.

Files seldom state how many of their bits are used: a camera of 12 bits fills a sixteenth of the range of 16. Unless the
file states more, the range is therefore that of the smallest usual depth that holds the largest sample.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from linnaea.data.picture import ImageError, OnNote, Picture, ignore_note

_DEPTHS = (8, 10, 12, 14, 16, 24, 32)
_PART = 1 << 22
"""Samples that are scaled at once: 32 MB in float64."""
_LEAST_BELOW_ZERO = -0.01
"""Samples that are below zero by more than this share of the range do not measure light."""


def to_bytes(
    samples: NDArray[Any], *, stated_top: float = 0, low: float = 0, on_note: OnNote = ignore_note
) -> NDArray[np.uint8]:
    """Scale samples to whole numbers between 0 and 255; black is at ``low``, white at the end of the range.

    The range of whole numbers ends at 255, 1,023, 4,095, 16,383, 65,535 ..., the first that is not below the largest
    sample and ``stated_top``. That of floating point ends at 1 if no sample is larger. With ``low`` it ends at
    ``stated_top``. Samples that are not finite are black.

    Raises:
        ImageError: samples are complex, or clearly below zero.
    """
    if samples.dtype.kind not in "uifb":
        raise ImageError(f"not a picture: samples of the type {samples.dtype}")
    if samples.dtype.kind == "f":
        samples = np.nan_to_num(samples, posinf=0, neginf=0)
    top = stated_top if low else range_of(samples, stated_top)
    if not low and float(samples.min(initial=0)) < _LEAST_BELOW_ZERO * top:
        raise ImageError(f"not a photograph: samples below zero (down to {samples.min():g}); save it as 8 bits")
    n_bits = 8 * samples.dtype.itemsize
    if samples.dtype.kind in "ui" and not low and 255 < top < 2 ** (n_bits - (samples.dtype.kind == "i")) - 1:
        on_note(f"read as {int(top).bit_length()} bits per sample in {n_bits}")
    scaled = np.empty(samples.shape, np.uint8)
    flat, result = samples.reshape(-1), scaled.reshape(-1)
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART].astype(np.float64) - low
        result[start : start + _PART] = (part.clip(0, top - low) * (255 / (top - low))).round()
    return scaled


def range_of(samples: NDArray[Any], stated_top: float = 0) -> float:
    """Return the value of white; see :func:`to_bytes`."""
    highest = max(float(samples.max(initial=0)), stated_top)
    if samples.dtype.kind == "f" and highest <= 1:
        return 1
    if samples.dtype.kind != "i":
        return next((2.0**bits - 1 for bits in _DEPTHS if highest < 2**bits), highest)
    n_bits = 8 * samples.dtype.itemsize - 1
    return next((2.0**bits - 1 for bits in (*_DEPTHS, n_bits) if highest < 2**bits <= 2**n_bits), highest)


def on_white(rgb: Picture, alpha: NDArray[Any], *, associated: bool = False) -> Picture:
    """Return colours on white by their transparency; ``associated`` ones are multiplied by it already."""
    share = (alpha / range_of(alpha)).clip(0, 1)[..., None]
    front = rgb if associated else rgb * share
    return np.asarray((front + 255 * (1 - share)).clip(0, 255).round(), np.uint8)
