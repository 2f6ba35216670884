"""CutMix (arXiv 1905.04899): replace a box in each picture by its partner's, and weigh the loss by area.

Partners are neighbours in the batch, whose order is already random, and all pictures of a step share one box. Both
depend only on seed and step. They are the same for any number of processes, if each has an even number of samples.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from linnaea.train.batches import Batch, make_rng

_STREAM = 5
"""Stream of random numbers, after those of :mod:`linnaea.train.batches`."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box in a square picture, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def draw_box(chance: float, seed: int, step: int, side: int) -> Box | None:
    """Return the box of a step, or ``None`` if the step does not mix.

    The share of the area is ``1 - lambda`` with ``lambda ~ Beta(1, 1)``, and the centre is uniform in the picture. The
    box is then clipped to the picture.
    """
    rng = make_rng(seed, _STREAM, step)
    if rng.random() >= chance:
        return None
    half = side * math.sqrt(1 - rng.random()) / 2
    y, x = rng.uniform(0, side, 2)
    top, left, bottom, right = (min(max(round(edge), 0), side) for edge in (y - half, x - half, y + half, x + half))
    return Box(top=top, left=left, bottom=bottom, right=right)


def mix_batch(batch: Batch, chance: float, seed: int) -> Batch:
    """Return the batch with the step's box exchanged between neighbours, or unchanged if the step does not mix.

    If the number of pictures is odd, the last one stays whole.
    """
    n, _, side, _ = batch.pixels.shape
    box = draw_box(chance, seed, batch.step, side) if chance else None
    if box is None:
        return batch
    partners = np.minimum(np.arange(n) ^ 1, n - 1)
    pixels, rows, columns = batch.pixels.copy("K"), slice(box.top, box.bottom), slice(box.left, box.right)
    pixels[:, :, rows, columns] = batch.pixels[partners, :, rows, columns]
    own_share = 1 - box.area / side**2
    return replace(batch, pixels=pixels, partner_ids=batch.taxon_ids[partners], own_share=own_share)
