"""Drawn pictures that look like photographs to a hash."""

import cv2
import numpy as np

from linnaea.data.picture import Picture


def scene(seed: int, height: int = 240, width: int = 320) -> Picture:
    """A picture with structure at every scale, as photographs have."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for size in (3, 6, 12, 25, 50):
        coarse = random.normal(0, 1 / np.sqrt(size), (size, size + 1, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return (total * (255 / total.max())).astype(np.uint8)
