"""Perceptual hashes of photographs: PDQ of a picture, and of 336 crops and extensions of it at little extra cost.

PDQ (Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019) is linear up to its
last step: luma, two box filters, decimation to 64 x 64 and the 16 x 16 lowest DCT coefficients without the constant.
On a picture resized to 256 x 256 all of it is ``A L A'`` with one fixed ``A`` of 16 x 256; a bit is set if its
coefficient lies above the median. A crop scaled back to 256 x 256 is one more fixed matrix, so nine row operators and
nine column operators give the hashes of 81 crops with one matrix product.
``tests/data/test_copies_search.py`` compares the hashes with the package pdqhash bit for bit.

A hash is four ``uint64``; the hashes of N pictures are ``[N, 4]``.

Many pictures are hashed in parts. A part is a pure function of a slice of a table, run by an engine; its result is one
file, written in one step. If the file exists, its pictures are not decoded again. A training picture has one hash, a
benchmark picture one per crop. On disk a picture takes 32 bytes per hash and 64 for its two checksums. In memory a
search needs only the hashes: 320 MB for 10 million pictures, mapped from a file that the workers of one machine share.
Reading a photograph is most of the work (5 to 8 ms for 1000 x 800 with scaled JPEG decode; its 81 crops take 1 ms
more). A build without a duplicate rule and benchmarks skips all of it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pyarrow
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from linnaea.arrays import save_array
from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.shards import write_parquet
from linnaea.data.sources import read_location
from linnaea.parquet import read_parquet, scan_parquet

Hashes = NDArray[np.uint64]
"""``[N, 4]``, 256 bits each, 128 of them set."""

Floats = NDArray[np.floating[Any]]

SIDE = 256
N_BITS = 256
MIN_QUALITY = 50
"""The threshold that PDQ recommends: below it, a picture has too little contrast for a meaningful hash."""

CROP_STEPS = (0.0, 0.025, 0.05)
"""Shares to cut off each of the four sides: 3^4 = 81 variants."""


SHIFTS = ((0.0, 0.05), (0.025, 0.025), (0.05, 0.0))
"""Shares to cut off both ends of a side: windows of 95% of the picture at three places."""
GROWN_STEPS = (0.0, -0.0185, -0.037, -0.0556)
"""Shares to add at each of the four sides, by repeating the edge: up to what a cut of 5% on both sides took away. The
hash of a picture that was cut then comes close to that of the whole one; 255 more variants."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A crop of a picture, given by the share cut off each side."""

    top: float
    bottom: float
    left: float
    right: float

    def __str__(self) -> str:
        shares = (self.top, self.bottom, self.left, self.right)
        grown = min(shares) < 0
        return f"{'grown' if grown else 'cut'} {'/'.join(f'{100 * abs(share):g}' for share in shares)}%"


def variants(steps: tuple[float, ...] = CROP_STEPS) -> list[Variant]:
    """Return the variants in the order of :func:`variant_hashes`; the first is the whole picture."""
    crops = list(product(steps, steps))
    return [Variant(top=top, bottom=bottom, left=left, right=right) for top, bottom in crops for left, right in crops]


def both_ways(steps: tuple[float, ...]) -> list[Variant]:
    """Return the variants in the order of :func:`hashes_both_ways`: the crops, then the grown pictures."""
    return [*variants(steps), *(variants(GROWN_STEPS)[1:] if len(steps) > 1 else ())]


def hashes_both_ways(picture: Picture, steps: tuple[float, ...] = CROP_STEPS) -> tuple[Hashes, int]:
    """Return the hashes of crops of a picture and of the picture grown at its sides, and its quality.

    So a picture is found in a copy that was cut, and a copy that was cut is found in the whole picture. With one step
    only, the picture is hashed once.
    """
    crops, quality = variant_hashes(picture, steps)
    if len(steps) == 1:
        return crops, quality
    return np.concatenate([crops, variant_hashes(picture, GROWN_STEPS)[0][1:]]), quality


def variant_hashes(picture: Picture, steps: tuple[float, ...] = CROP_STEPS) -> tuple[Hashes, int]:
    """Return the hashes ``[V, 4]`` of all :func:`variants` of a picture ``[H, W, 3]``, and its quality (0 to 100).

    The picture is resized to 256 x 256 without its aspect ratio, because copies may have lost it. The quality measures
    its contrast: below :data:`MIN_QUALITY` the hashes are meaningless.
    """
    luma = _luma(picture)
    operators = _crop_operators(steps)
    return _pack(_all_products(operators, luma, operators)), _quality(luma)


def window_hashes(picture: Picture) -> tuple[Hashes, int]:
    """Return the hashes ``[10, 4]`` of a picture and of nine windows of it (:data:`SHIFTS`), and its quality.

    Two frames of one scene that moved by up to 5% have nearly equal windows, where their own hashes differ.
    """
    luma = _luma(picture)
    whole, windows = _operator()[None], _window_operators()
    products = [_all_products(operators, luma, operators) for operators in (whole, windows)]
    return _pack(np.concatenate(products)), _quality(luma)


def pixel_sha256(picture: Picture) -> str:
    """Return the SHA-256 of the decoded pixels and their shape.

    It is equal for copies that differ only in metadata or container.
    """
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _luma(picture: Picture) -> Floats:
    height, width = picture.shape[:2]
    # Area averages to shrink; to grow, INTER_AREA would repeat pixels, so linear interpolation.
    how = cv2.INTER_AREA if height >= SIDE and width >= SIDE else cv2.INTER_LINEAR
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=how).astype(np.float32)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.float32)


@cache
def _blur_and_decimate() -> Floats:
    """Return ``[64, 256]``: twice the mean of two neighbours, then every fourth sample."""
    box = (np.eye(SIDE) + np.eye(SIDE, k=1)) / 2
    box[-1, -1] = 1.0
    return (box @ box)[2::4].astype(np.float32)


@cache
def _operator() -> Floats:
    """Return ``A``, ``[16, 256]``: blur, decimate, DCT coefficients 1 to 16."""
    k, j = np.arange(1, 17)[:, None], np.arange(64)[None]
    dct = np.sqrt(2 / 64) * np.cos(np.pi / 128 * k * (2 * j + 1))
    return np.asarray(dct @ _blur_and_decimate(), dtype=np.float32)


@cache
def _crop_operators(steps: tuple[float, ...]) -> Floats:
    """Return ``A`` after cutting (a, b) off the ends and scaling back, per pair: ``[len(steps)**2, 16, 256]``."""
    return np.stack([_operator() @ _crop_and_scale(a, b) for a, b in product(steps, steps)])


@cache
def _window_operators() -> Floats:
    return np.stack([_operator() @ _crop_and_scale(a, b) for a, b in SHIFTS])


def _all_products(rows: Floats, luma: Floats, columns: Floats) -> Floats:
    """Return ``rows[i] @ luma @ columns[j].T`` for all i, j: ``[n * n, 16, 16]``, in one matrix product."""
    n = len(rows)
    flat = rows.reshape(n * 16, SIDE) @ luma @ columns.reshape(n * 16, SIDE).T
    return flat.reshape(n, 16, n, 16).swapaxes(1, 2).reshape(n * n, 16, 16)


def _crop_and_scale(a: float, b: float) -> Floats:
    """Return ``[256, 256]``: linear interpolation at the centres of 256 equal cells of [a, 1 - b]."""
    at = (a + (np.arange(SIDE) + 0.5) / SIDE * (1 - a - b)) * SIDE - 0.5
    at = at.clip(0, SIDE - 1)
    low = np.minimum(at.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
    matrix[np.arange(SIDE), low] = 1 - (at - low)
    matrix[np.arange(SIDE), low + 1] += at - low
    return matrix


def _pack(coefficients: Floats) -> Hashes:
    """Return ``[V, 4]`` hashes of ``[V, 16, 16]`` coefficients: a bit is set above the (lower) median."""
    flat = coefficients.reshape(len(coefficients), N_BITS)
    median = np.partition(flat, N_BITS // 2 - 1, axis=1)[:, N_BITS // 2 - 1, None]
    packed = np.packbits((flat > median)[:, ::-1], axis=1)  # PDQ writes the highest coefficient first
    return packed.view(">u8").astype(np.uint64)


def _quality(luma: Floats) -> int:
    """Return PDQ's quality: the sum of the gradients of the 64 x 64 picture, in whole per cent steps, over 90."""
    small = _blur_and_decimate() @ luma @ _blur_and_decimate().T
    steps = (np.abs(np.diff(small, axis=axis)) * (100 / 255) for axis in (0, 1))
    return min(int(sum(int(np.trunc(step).sum()) for step in steps) / 90), 100)


# The hashes of a table of pictures, in parts.

HASH_BYTES = 32

PART_SCHEMA: dict[str, Any] = {"sha256": pl.Binary, "pixels": pl.Binary, "hashes": pl.Binary}
"""One row per picture: checksums of its bytes and of its pixels (as decoded here: scaled, upright), and its perceptual
hashes in sequence. All are null for a file that is not a picture; ``hashes`` is null at too little contrast."""


@dataclass(frozen=True, kw_only=True)
class HashTask:
    """A task to hash one slice of a table of pictures (column ``location``)."""

    pictures: Path
    start: int
    length: int
    steps: tuple[float, ...]
    """Shares to cut off each side (see :func:`both_ways`); ``(0.0,)`` hashes the whole picture only."""
    part: Path

    @property
    def receipt_path(self) -> Path:
        """The file of the part, which is its own receipt."""
        return self.part


def hash_pictures(task: HashTask) -> int:
    """Hash one slice and return its number of pictures."""
    cv2.setNumThreads(1)  # the engine's workers are the parallelism
    table = scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
    with threadpool_limits(1, user_api="blas"):
        rows = [_hash_one(location, task.steps) for location in table["location"]]
    write_parquet(pl.DataFrame(rows, schema=PART_SCHEMA, orient="row"), task.part)
    return task.length


def _hash_one(location: str, steps: tuple[float, ...]) -> tuple[bytes | None, bytes | None, bytes | None]:
    try:
        data = read_location(location)
        picture = decode(data, min_short_side=SIDE)
    except ImageError:  # the stage that writes shards rejects it with a reason
        return None, None, None
    hashes, quality = hashes_both_ways(picture, steps)
    perceptual = hashes.tobytes() if quality >= MIN_QUALITY else None
    return hashlib.sha256(data).digest(), bytes.fromhex(pixel_sha256(picture)), perceptual


def list_hash_tasks(
    pictures: Path, n_pictures: int, steps: tuple[float, ...], folder: Path, part_size: int
) -> list[HashTask]:
    """Return a task per slice of a table of pictures; their parts are written to ``folder``."""
    return [
        HashTask(pictures=pictures, start=start, length=min(part_size, n_pictures - start), steps=steps,
                 part=folder / f"{number:06d}.parquet")
        for number, start in enumerate(range(0, n_pictures, part_size))
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HashTable:
    """The hashes of a table of pictures, gathered from its parts."""

    parts: tuple[Path, ...]
    rows: NDArray[np.int64]
    """Row numbers ``[N]`` of the pictures with perceptual hashes, ascending."""
    path: Path
    """The file of their hashes, ``uint64 [N * n_variants, 4]``."""
    n_variants: int

    def load(self) -> Hashes:
        """Return all hashes, mapped from the file."""
        hashes: Hashes = np.load(self.path, mmap_mode="r")
        return hashes

    def of_rows(self, rows: NDArray[np.int64]) -> Hashes:
        """Return the first hash ``[n, 4]`` of some of the pictures in ``rows``."""
        return np.asarray(self.load()[np.searchsorted(self.rows, rows) * self.n_variants])

    def digests(self, kind: str) -> pl.Series:
        """Return ``sha256`` or ``pixels`` ``[n_pictures]`` of every picture (480 MB for 10 million)."""
        empty = pl.Series(kind, [], dtype=pl.Binary)
        return pl.concat([empty, *(read_parquet(part, columns=[kind])[kind] for part in self.parts)])

    def hex(self, n_pictures: int) -> pl.Series:
        """Return each picture's first hash ``[n_pictures]`` as 64 hex digits, or null if it has none."""
        bits = self.load()[:: self.n_variants].astype(">u8")
        flat = pyarrow.Array.from_buffers(pyarrow.binary(HASH_BYTES), len(bits), [None, pyarrow.py_buffer(bits)])
        hexes = pl.Series(flat, dtype=pl.Binary).bin.encode("hex")
        places = pl.DataFrame({"row": self.rows, "pdq": hexes}, schema={"row": pl.Int64, "pdq": pl.String})
        every = pl.DataFrame({"row": np.arange(n_pictures)}, schema={"row": pl.Int64})
        return every.join(places, on="row", how="left", maintain_order="left")["pdq"]


def gather_hashes(tasks: Sequence[HashTask], path: Path) -> HashTable:
    """Gather the parts of one table and write the hashes to ``path``."""
    n_variants = len(both_ways(tasks[0].steps)) if tasks else 1
    rows, hashes = [], []
    for task in tasks:
        made = read_parquet(task.part, columns=["hashes"])["hashes"]
        rows.append(task.start + np.flatnonzero(made.is_not_null().to_numpy()))
        joined = b"".join(made.drop_nulls())
        hashes.append(np.frombuffer(joined, dtype=np.uint64).reshape(-1, 4))
    save_array(np.concatenate([np.empty((0, 4), dtype=np.uint64), *hashes]), path)
    return HashTable(
        parts=tuple(task.part for task in tasks),
        rows=np.concatenate([np.empty(0, dtype=np.int64), *rows]).astype(np.int64),
        path=path,
        n_variants=n_variants,
    )


@dataclass(frozen=True, kw_only=True)
class DistinctHashes:
    """The distinct hashes of a table: a picture that occurs ten thousand times is searched for once."""

    path: Path
    """The file of the hashes, ``uint64 [D, 4]``."""
    rows: NDArray[np.int64]
    """Row numbers ``[N]`` of the pictures, ascending."""
    number: NDArray[np.int64]
    """Index ``[N]`` of the distinct hash of each picture."""


def gather_distinct(table: HashTable, alive: NDArray[np.bool_], path: Path) -> DistinctHashes:
    """Write the distinct hashes of the pictures that are ``alive``; sorting 10 million takes about 1.5 GB."""
    living = alive[table.rows]
    distinct, number = np.unique(table.load()[:: table.n_variants][living], axis=0, return_inverse=True)
    save_array(distinct, path)
    return DistinctHashes(path=path, rows=table.rows[living], number=number.reshape(-1).astype(np.int64))
