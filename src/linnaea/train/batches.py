"""Batches: which samples, in which order, how augmented. All of it a pure function of (seed, step, world size).

Nothing here has a state to save: a run that resumes at step n sees what an uninterrupted one would have seen,
with any number of workers.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.train.recipes import Feed

_ORDER, _AUGMENT, _TEXT, _REPLACE = range(4)
"""Streams of random numbers that never meet."""

MAX_REPLACEMENTS = 20


@dataclass(frozen=True)
class Batch:
    """One step's samples of this process."""

    step: int
    pixels: UInt8[ndarray, "B 3 S S"]
    taxon_ids: Int64[ndarray, "B"]  # noqa: F821
    text_types: Int64[ndarray, "B"]  # noqa: F821
    keys: tuple[str, ...]
    unreadable: tuple[str, ...]
    """Samples that could not be read, with the reason; others stand in for them."""


def make_rng(seed: int, stream: int, *place: int) -> np.random.Generator:
    """Random numbers that depend on these integers alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *place])))


def epoch_order(n_samples: int, seed: int, epoch: int, shard_of: NDArray[Any] | None = None, window: int = 0) -> Any:
    """The order of one epoch: a permutation of ``range(n_samples)``.

    With a ``window`` the shards are shuffled, and then the samples within windows of that many: reads stay
    near each other. Without, all samples are shuffled.
    """
    rng = make_rng(seed, _ORDER, epoch)
    if not window or shard_of is None:
        return rng.permutation(n_samples)
    shards, first = np.unique(shard_of, return_index=True)
    blocks = np.split(np.arange(n_samples), np.sort(first)[1:])
    order = np.concatenate([blocks[i] for i in rng.permutation(len(shards))])
    return np.concatenate([rng.permutation(order[i : i + window]) for i in range(0, n_samples, window)])


@dataclass(frozen=True)
class Loader:
    """Makes the batches of a data set for one process of ``world_size``."""

    dataset: DataSet
    feed: Feed
    image_size: int
    seed: int
    n_workers: int = 2
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.feed.batch_size % self.world_size:
            raise LinnaeaError(f"batch size {self.feed.batch_size} does not divide over {self.world_size} processes")
        if len(self.dataset) == 0:
            raise LinnaeaError(f"{self.dataset.directory}: no samples to train on")

    @cached_property
    def _taxon_ids(self) -> NDArray[np.int64]:
        return self.dataset.index["taxon_id"].to_numpy().astype(np.int64)

    @cached_property
    def _shards(self) -> NDArray[Any] | None:
        if not self.feed.shuffle_window:
            return None
        return self.dataset.index["shard"].to_physical().to_numpy()

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Rows of the index that this process takes at ``step``.

        The epochs' orders follow one another without a gap; a global batch is a stretch of that sequence, and
        each process takes an equal part of it.
        """
        n, size = len(self.dataset), self.feed.batch_size
        share = size // self.world_size
        start = step * size + self.rank * share
        places = np.arange(start, start + share)
        rows = np.empty(share, np.int64)
        for epoch in np.unique(places // n):
            here = places // n == epoch
            rows[here] = self._order(int(epoch))[places[here] % n]
        return rows

    def _order(self, epoch: int) -> NDArray[np.int64]:
        cache = self.__dict__.setdefault("_orders", {})
        if epoch not in cache:
            for old in [key for key in cache if key < epoch - 1]:
                del cache[old]
            cache[epoch] = epoch_order(
                len(self.dataset), self.seed, epoch, shard_of=self._shards, window=self.feed.shuffle_window
            )
        order: NDArray[np.int64] = cache[epoch]
        return order

    def iter_batches(self, first_step: int, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps ``first_step`` to ``n_steps``, decoded ahead by threads."""
        with ThreadPoolExecutor(self.n_workers) as pool:
            pending: deque[tuple[int, list[Future[Any]]]] = deque()
            for step in range(first_step, n_steps):
                pending.append((step, self._submit(pool, step)))
                if len(pending) > 2:
                    yield self._collect(*pending.popleft())
            while pending:
                yield self._collect(*pending.popleft())

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> list[Future[Any]]:
        rows = self.rows_at(step)
        first = step * self.feed.batch_size + self.rank * len(rows)
        places = range(first, first + len(rows))
        return [pool.submit(self._load, int(row), place) for row, place in zip(rows, places, strict=True)]

    def _load(self, row: int, place: int) -> tuple[int, Picture, list[str]]:
        unreadable: list[str] = []
        rng = make_rng(self.seed, _REPLACE, place)
        for _ in range(MAX_REPLACEMENTS):
            try:
                return row, self._augment(self.dataset.read(row), place), unreadable
            except (ImageError, LinnaeaError) as error:
                unreadable.append(f"{self.dataset.index['key'][row]}: {error}")
                row = int(rng.integers(len(self.dataset)))
        raise LinnaeaError(
            f"{self.dataset.directory}: {MAX_REPLACEMENTS} samples in a row cannot be read; {unreadable[-1]}"
        )

    def _augment(self, data: bytes, place: int) -> Picture:
        """A random resized crop (the distribution of torchvision's and open_clip's), linear interpolation."""
        rng = make_rng(self.seed, _AUGMENT, place)
        smallest = self.image_size / np.sqrt(self.feed.crop_scale[0])
        picture = decode(data, min_short_side=int(np.ceil(smallest)))
        top, left, height, width = random_crop(rng, picture.shape[:2], self.feed.crop_scale, self.feed.crop_ratio)
        crop = picture[top : top + height, left : left + width]
        side = self.image_size
        shrinks = height > side and width > side
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        small: Picture = np.asarray(cv2.resize(crop, (side, side), interpolation=method), np.uint8)
        if self.feed.flip and rng.random() < 0.5:
            small = small[:, ::-1]
        if self.feed.colour_jitter:
            small = jitter_colours(rng, small, self.feed.colour_jitter)
        return np.ascontiguousarray(small.transpose(2, 0, 1))

    def _collect(self, step: int, futures: list[Future[Any]]) -> Batch:
        loaded = [future.result() for future in futures]
        rows = [row for row, _, _ in loaded]
        types = self._draw_text_types(step, len(rows))
        return Batch(
            step=step,
            pixels=np.stack([pixels for _, pixels, _ in loaded]),
            taxon_ids=self._taxon_ids[rows],
            text_types=types,
            keys=tuple(self.dataset.index["key"].gather(rows)),
            unreadable=tuple(line for _, _, lines in loaded for line in lines),
        )

    def _draw_text_types(self, step: int, n_samples: int) -> NDArray[np.int64]:
        n_types = len(self.feed.text_types)
        if self.feed.text_per_batch:  # all processes draw the same
            return np.full(n_samples, make_rng(self.seed, _TEXT, step).integers(n_types), np.int64)
        return make_rng(self.seed, _TEXT, step, self.rank).integers(n_types, size=n_samples)


def random_crop(
    rng: np.random.Generator, shape: tuple[int, ...], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop: area uniform in ``scale``, aspect ratio log-uniform in ``ratio``.

    Ten tries, then the largest centred crop within ``ratio``, as torchvision's ``RandomResizedCrop``.
    """
    height, width = shape
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = (width, round(width / aspect)) if width / height < aspect else (round(height * aspect), height)
    w, h = min(w, width), min(h, height)
    return (height - h) // 2, (width - w) // 2, h, w


def jitter_colours(rng: np.random.Generator, picture: Picture, strength: float) -> Picture:
    """Random brightness, contrast and saturation, each by a factor within ``1 +- strength``."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    values = picture.astype(np.float32) * brightness
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
    values = grey[..., None] + saturation * (values - grey[..., None])
    values = grey.mean() + contrast * (values - grey.mean())
    return np.asarray(values.clip(0, 255), np.uint8)
