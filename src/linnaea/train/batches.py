"""Load batches: choose, order, decode and augment samples.

A batch is a pure function of (seed, step, world size). There is no state to save: a run that resumes at step n sees
the same batches as an uninterrupted one, for any number of workers.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from numpy.typing import NDArray
from PIL import Image

from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.train.recipe import Feed

_ORDER, _AUGMENT, _TEXT, _REPLACE, _BALANCE = range(5)
"""Independent streams of random numbers."""

MAX_REPLACEMENTS = 20
AREA_FROM = 1.5
"""Smallest reduction factor for which the area filter is used."""
BATCHES_AHEAD = 2
SAMPLES_AT_ONCE = 16
"""Samples that one task of a thread decodes."""
_TRIES = 10
"""Attempts to place a crop, as in torchvision."""
_PLACE, _FLIP, _COLOURS, _N_DRAWN = 2 * _TRIES, 2 * _TRIES + 2, 2 * _TRIES + 3, 2 * _TRIES + 6
"""Offset of each purpose in a sample's random numbers, which begin with two per attempt at a crop."""
_GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey."""
_SCRATCH_BYTES = 2 << 20
"""Buffer size for a picture of 800 x 800 pixels; larger pictures allocate their own memory."""


@dataclass(frozen=True)
class Labels:
    """The labels of a step's samples; no picture has been read."""

    taxon_ids: Int64[ndarray, " B"]
    text_types: Int64[ndarray, " B"]
    """Positions in the recipe's text types."""
    partner_ids: Int64[ndarray, " B"] | None = None
    """With CutMix: the taxon of each picture's mixed-in part (:mod:`linnaea.train.cutmix`)."""
    own_share: float = 1.0
    """Share of the picture's area that shows the sample itself, not its partner."""


@dataclass(frozen=True)
class Replayed:
    """General pictures with captions that accompany a step's samples (:mod:`linnaea.train.replay`)."""

    pixels: UInt8[ndarray, "R 3 S S"]
    tokens: Int64[ndarray, "R T"]
    """Each picture's caption, padded with 0 to the context length."""


@dataclass(frozen=True)
class Batch:
    """The samples of one step on this process."""

    step: int
    pixels: UInt8[ndarray, "B 3 S S"]
    taxon_ids: Int64[ndarray, " B"]
    text_types: Int64[ndarray, " B"]
    keys: tuple[str, ...]
    unreadable: tuple[str, ...]
    """Samples that could not be read, with the reason; other samples replace them."""
    partner_ids: Int64[ndarray, " B"] | None = field(default=None, kw_only=True)
    own_share: float = field(default=1.0, kw_only=True)
    """``partner_ids`` and ``own_share`` are as in :class:`Labels`."""
    vectors: Float32[ndarray, "B E"] | None = field(default=None, kw_only=True)
    """The pictures' vectors if they are already encoded; ``pixels`` is then a shape without memory."""
    replayed: Replayed | None = field(default=None, kw_only=True)


@runtime_checkable
class BatchSource(Protocol):
    """A source of batches, each a function of its step."""

    def iter_batches(self, first_step: int, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps ``first_step`` to ``n_steps``."""


def make_rng(seed: int, stream: int, *place: int) -> np.random.Generator:
    """Return a random generator that depends only on these integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, *place])))


def draw_uniforms(seed: int, stream: int, first: int, n: int, n_drawn: int) -> NDArray[np.float64]:
    """Return ``n_drawn`` numbers in [0, 1) for each of ``n`` places, starting at place ``first``.

    The numbers of a place depend only on the place. They come from one counter-based generator (Philox), advanced to
    the first place: making a generator for each place would cost a tenth of the decoding time.
    """
    n_blocks = -(-n_drawn // 4)  # one count yields four numbers
    key = np.random.SeedSequence([seed, stream]).generate_state(2, np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=int(first) * n_blocks))
    return generator.random((n, 4 * n_blocks))[:, :n_drawn]


def empty_pixels(n: int, side: int) -> UInt8[ndarray, "n 3 S S"]:
    """Return uninitialised memory for ``n`` pictures in ``channels_last`` layout, which decoders write."""
    return np.empty((n, side, side, 3), np.uint8).transpose(0, 3, 1, 2)


def epoch_order(
    n_samples: int,
    seed: int,
    epoch: int,
    shard_of: NDArray[Any] | None = None,
    window: int = 0,
    n_times: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the order of one epoch: a permutation of ``range(n_samples)``, each ``n_times`` (default once).

    With a ``window``, the shards are shuffled first and then the samples within windows of that size, so that reads
    stay close together. Without one, all samples are shuffled.
    """
    rng = make_rng(seed, _ORDER, epoch)
    if not window or shard_of is None:
        return rng.permutation(n_samples if n_times is None else np.repeat(np.arange(n_samples), n_times))
    shards, first = np.unique(shard_of, return_index=True)
    blocks = np.split(np.arange(n_samples), np.sort(first)[1:])
    order = np.concatenate([blocks[i] for i in rng.permutation(len(shards))])
    order = order if n_times is None else np.repeat(order, n_times[order])
    return np.concatenate([rng.permutation(order[i : i + window]) for i in range(0, len(order), window)])


def balanced_counts(
    rng: np.random.Generator, group_of: Sequence[NDArray[np.int64]], strengths: Sequence[float]
) -> NDArray[np.int64]:
    """Return how often each sample is taken in an epoch of ``n_samples`` that balances rare and common groups.

    ``group_of`` holds one or more groupings (taxa, sources). With strength ``s``, a group of ``n`` samples weighs
    ``n**(1 - s)``: 0 keeps its frequency, and 1 makes all groups of that grouping equally frequent (the inverse
    temperature of multilingual sampling). Within a group, the counts of samples differ by at most one.
    """
    n_samples = len(group_of[0])
    weight = np.ones(n_samples)
    for groups, strength in zip(group_of, strengths, strict=True):
        _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        weight *= (sizes[member] / n_samples) ** -strength
    _, cell, sizes = np.unique(np.stack(group_of), axis=1, return_inverse=True, return_counts=True)
    cell = cell.reshape(-1)
    expected = np.bincount(cell, weights=weight) * (n_samples / weight.sum())
    # Systematic sampling: whole numbers with these means that sum to the length of the epoch.
    edges = np.floor(np.concatenate([[0.0], np.cumsum(expected)]) + rng.random())
    edges[-1] = edges[0] + n_samples
    quota = np.diff(edges).astype(np.int64)
    order = np.lexsort((rng.random(n_samples), cell))
    place = np.empty(n_samples, np.int64)  # random position of a sample in its cell
    place[order] = np.arange(n_samples) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    whole, rest = np.divmod(quota, sizes)
    counts: NDArray[np.int64] = whole[cell] + (place < rest[cell])
    return counts


@dataclass(frozen=True)
class Loader:
    """Loads the batches of a data set for one of ``world_size`` processes."""

    dataset: DataSet
    feed: Feed
    image_size: int
    seed: int
    n_workers: int = 2
    rank: int = 0
    world_size: int = 1
    allocate: Callable[[int, int], UInt8[ndarray, "B 3 S S"]] = empty_pixels
    """Returns memory for the pixels of a batch: number of pictures, side."""

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
        """Return the rows of the index that this process reads at ``step``.

        The orders of the epochs are concatenated. A global batch is a contiguous part of that sequence, and each
        process takes an equal part of it.
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
                len(self.dataset),
                self.seed,
                epoch,
                shard_of=self._shards,
                window=self.feed.shuffle_window,
                n_times=self._balance(epoch),
            )
        order: NDArray[np.int64] = cache[epoch]
        return order

    def _balance(self, epoch: int) -> NDArray[np.int64] | None:
        strengths = (self.feed.taxon_balance, self.feed.source_balance)
        if not any(strengths):
            return None
        _, sources = np.unique(self.dataset.index["source"].to_numpy(), return_inverse=True)
        return balanced_counts(make_rng(self.seed, _BALANCE, epoch), (self._taxon_ids, sources), strengths)

    def iter_labels(self, first_step: int, n_steps: int) -> Iterator[Labels]:
        """Yield the labels of the batches of :meth:`iter_batches`, without reading pictures."""
        for step in range(first_step, n_steps):
            rows = self.rows_at(step)
            yield Labels(self._taxon_ids[rows], self.draw_text_types(step, len(rows)))

    def iter_batches(self, first_step: int, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps ``first_step`` to ``n_steps``; threads decode them in advance."""
        with ThreadPoolExecutor(self.n_workers) as pool:
            pending: deque[_Pending] = deque()
            for step in range(first_step, n_steps):
                pending.append(self._submit(pool, step))
                if len(pending) > BATCHES_AHEAD:
                    yield self._collect(pending.popleft())
            while pending:
                yield self._collect(pending.popleft())

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> "_Pending":
        rows = self.rows_at(step)
        first = step * self.feed.batch_size + self.rank * len(rows)
        pixels = self.allocate(len(rows), self.image_size)
        return _Pending(step, pixels, self._submit_rows(pool, rows, first, pixels))

    def _submit_rows(
        self, pool: ThreadPoolExecutor, rows: NDArray[np.int64], first: int, pixels: UInt8[ndarray, "B 3 S S"]
    ) -> list[Future[Any]]:
        return [
            pool.submit(self._fill, rows[i : i + SAMPLES_AT_ONCE], first + i, pixels[i : i + SAMPLES_AT_ONCE])
            for i in range(0, len(rows), SAMPLES_AT_ONCE)
        ]

    def fill_all(
        self, pool: ThreadPoolExecutor, rows: NDArray[np.int64], first: int, pixels: UInt8[ndarray, "B 3 S S"]
    ) -> NDArray[np.int64]:
        """Load ``rows`` into ``pixels`` (from :func:`empty_pixels`) and return the rows that were used.

        Samples are augmented as those at places ``first`` and following. An unreadable sample is replaced by another.
        """
        parts = [task.result() for task in self._submit_rows(pool, rows, first, pixels)]
        return np.array([row for taken, _ in parts for row in taken])

    def taxon_ids_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the taxon of each row."""
        return self._taxon_ids[rows]

    def _fill(
        self, rows: NDArray[np.int64], first: int, pixels: UInt8[ndarray, "B 3 S S"]
    ) -> tuple[list[int], list[str]]:
        """Load ``rows`` into ``pixels``; return the rows that were used, and a message for each unreadable one."""
        taken, unreadable = [], []
        scratch = _Scratch.make(self.image_size)
        drawn = draw_uniforms(self.seed, _AUGMENT, first, len(rows), _N_DRAWN).tolist()
        pictures = pixels.transpose(0, 2, 3, 1)
        for i, row in enumerate(rows.tolist()):
            used, complaints = self._load(row, first + i, drawn[i], scratch, pictures[i])
            taken.append(used)
            unreadable += complaints
        return taken, unreadable

    def _load(
        self, row: int, place: int, drawn: list[float], scratch: "_Scratch", out: Picture
    ) -> tuple[int, list[str]]:
        unreadable: list[str] = []
        while len(unreadable) < MAX_REPLACEMENTS:
            try:
                self._augment(self.dataset.read(row), drawn, scratch, out)
                return row, unreadable
            except (ImageError, LinnaeaError) as error:
                unreadable.append(f"{self.dataset.index['key'][row]}: {error}")
                row = int(make_rng(self.seed, _REPLACE, place, len(unreadable)).integers(len(self.dataset)))
        raise LinnaeaError(
            f"{self.dataset.directory}: {MAX_REPLACEMENTS} samples in a row cannot be read; {unreadable[-1]}"
        )

    def _augment(self, data: bytes, drawn: list[float], scratch: "_Scratch", out: Picture) -> None:
        """Write a randomly cropped, coloured and flipped picture to ``out``.

        The crop has the distribution of torchvision's and open_clip's random resized crop.
        """
        feed = self.feed
        smallest = None if feed.exact_resize else math.ceil(self.image_size / math.sqrt(feed.crop_scale[0]))
        picture = decode(data, min_short_side=smallest, scratch=scratch.decoded)
        top, left, height, width = random_crop(drawn, picture.shape[:2], feed.crop_scale, feed.crop_ratio)
        crop = picture[top : top + height, left : left + width]
        flips, jitters = feed.flip and drawn[_FLIP] < 0.5, feed.colour_jitter > 0
        small = resize(crop, self.image_size, exact=feed.exact_resize, out=scratch.resized if flips or jitters else out)
        if jitters:
            drawn_colours = drawn[_COLOURS:]
            small = jitter_colours(drawn_colours, small, feed.colour_jitter, out=scratch.coloured if flips else out)
        if flips:
            cv2.flip(small, 1, dst=out)

    def _collect(self, pending: "_Pending") -> Batch:
        parts = [task.result() for task in pending.tasks]
        rows = [row for taken, _ in parts for row in taken]
        return Batch(
            step=pending.step,
            pixels=pending.pixels,
            taxon_ids=self._taxon_ids[rows],
            text_types=self.draw_text_types(pending.step, len(rows)),
            keys=tuple(self.dataset.index["key"].gather(rows)),
            unreadable=tuple(line for _, lines in parts for line in lines),
        )

    def draw_text_types(self, step: int, n_samples: int) -> NDArray[np.int64]:
        """Draw the text types of this process's samples; they do not depend on the number of processes."""
        n_types = len(self.feed.text_types)
        if self.feed.text_per_batch:
            return np.full(n_samples, make_rng(self.seed, _TEXT, step).integers(n_types), np.int64)
        drawn = make_rng(self.seed, _TEXT, step, 0).integers(n_types, size=self.feed.batch_size)
        return drawn[self.rank * n_samples : (self.rank + 1) * n_samples]


@dataclass(frozen=True)
class _Pending:
    """A batch whose pixels are being filled by threads."""

    step: int
    pixels: UInt8[ndarray, "B 3 S S"]
    tasks: list[Future[tuple[list[int], list[str]]]]


@dataclass(frozen=True)
class _Scratch:
    """Buffers that are reused from picture to picture."""

    decoded: UInt8[ndarray, " N"]
    resized: UInt8[ndarray, "S S 3"]
    coloured: UInt8[ndarray, "S S 3"]

    @classmethod
    def make(cls, image_size: int) -> "_Scratch":
        small = (np.empty((image_size, image_size, 3), np.uint8) for _ in range(2))
        return cls(np.empty(_SCRATCH_BYTES, np.uint8), *small)


def resize(picture: Picture, side: int, *, exact: bool = False, out: Picture | None = None) -> Picture:
    """Return the picture stretched to a square, in ``out`` if given.

    Interpolation is linear, or by area for large reductions; ``exact`` uses Pillow's bicubic, as open_clip does.
    Linear interpolation skips pixels and aliases if a picture shrinks to less than about two thirds, which is rare
    after scaled decoding. Area interpolation takes six times longer.
    """
    if exact:
        small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), np.uint8)
        if out is None:
            return small
        np.copyto(out, small)
        return out
    shrinks_a_lot = min(picture.shape[:2]) > AREA_FROM * side
    method = cv2.INTER_AREA if shrinks_a_lot else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), dst=out, interpolation=method), np.uint8)


def random_crop(
    drawn: Sequence[float], shape: tuple[int, ...], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop, in pixels.

    The area is uniform in ``scale`` and the aspect ratio log-uniform in ``ratio``. After ten failed attempts it is the
    largest centred crop within ``ratio``, as in torchvision's ``RandomResizedCrop``. ``drawn`` holds 22 numbers in
    [0, 1).
    """
    height, width = shape
    least, log_ratio = scale[0], math.log(ratio[0])
    range_, log_range = scale[1] - least, math.log(ratio[1]) - log_ratio
    for i in range(0, 2 * _TRIES, 2):
        area = height * width * (least + range_ * drawn[i])
        aspect = math.exp(log_ratio + log_range * drawn[i + 1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(drawn[_PLACE] * (height - h + 1)), int(drawn[_PLACE + 1] * (width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = (width, round(width / aspect)) if width / height < aspect else (round(height * aspect), height)
    w, h = min(w, width), min(h, height)
    return (height - h) // 2, (width - w) // 2, h, w


def jitter_colours(drawn: Sequence[float], picture: Picture, strength: float, out: Picture | None = None) -> Picture:
    """Return the picture with random brightness, contrast and saturation.

    Each changes by a factor within ``1 +- strength``, taken from the three numbers in ``drawn``. All three are linear,
    so one matrix applies them: saturation scales a pixel's distance from its own grey, and contrast its distance from
    the picture's mean grey.
    """
    brightness, contrast, saturation = (1 + strength * (2 * number - 1) for number in drawn)
    mean = float(_GREY @ cv2.mean(picture)[:3])
    matrix = np.empty((3, 4))
    matrix[:, :3] = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * _GREY)
    matrix[:, 3] = (1 - contrast) * brightness * mean
    return np.asarray(cv2.transform(picture, matrix, dst=out), np.uint8)
