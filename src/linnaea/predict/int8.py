"""Vectors in 8 bits: an integer per value and a scale per row, half the size of fp16 and a quarter of the work.

The processor multiplies 8-bit integers several times as fast as float32. An image's vector is split into two 8-bit
parts, a high and a low one, so that products are off by the rounding of the bank alone.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.arrays import create_array, write_array
from linnaea.errors import LinnaeaError
from linnaea.predict.threads import Scratch, in_threads
from linnaea.progress import announce_uncached
from linnaea.storage import atomic_path, cache_dir, write_atomically

ROWS_AT_ONCE = 65_536
LARGEST = 127
LARGEST_WITHOUT_VNNI = 64
"""The largest integer of an image's two parts where larger ones would make sums saturate (:func:`_adds_exactly`)."""

STAYS_MAPPED = 256_000_000
"""Bytes of a memory-mapped array that may stay in memory; see :func:`release`."""
_PRODUCTS_AT_ONCE = 131_072
"""Products of one call: few enough for the processor's cache."""
STRETCH = 32
"""Rows whose largest products are kept, to find the best of all rows quickly."""
_CELLS_FILE, _SCALE_FILE, _FACTS_FILE = "cells.npy", "scale.npy", "facts.json"


class Int8Rows:
    """Rows that are stored in 8 bits and read as float32.

    The rounding error is 0.8% of the length of a unit vector of 512 values (fp16: 0.02%), which changes a cosine by
    about 0.0004.
    """

    def __init__(self, scale_K: NDArray[np.float32], cells_KE: NDArray[np.int8]) -> None:
        self.scale_K, self.cells_KE = scale_K, cells_KE

    @classmethod
    def of(cls, vectors: Any) -> "Int8Rows":
        """Round ``[K, E]`` vectors; rows that are already rounded stay as they are."""
        rows = cls(np.empty(len(vectors), np.float32), np.empty(vectors.shape, np.int8))
        rows._round(vectors)
        return rows

    @staticmethod
    def is_packed(array: NDArray[Any]) -> bool:
        """Return whether an array is one of :func:`row_type`."""
        fields: Mapping[str, Any] = array.dtype.fields or {}
        width: tuple[int, ...] = fields["cells"][0].shape if "cells" in fields else ()
        return array.ndim == 1 and len(width) == 1 and array.dtype == row_type(width[0])

    @classmethod
    def unpack(cls, packed: NDArray[Any]) -> "Int8Rows":
        """Return the rows of an array of :func:`row_type`, without copying it."""
        return cls(packed["scale"], packed["cells"])

    def pack(self) -> NDArray[Any]:
        """Return one array of :func:`row_type`, as a bank keeps on disk."""
        packed = np.empty(len(self), row_type(self.shape[1]))
        packed["scale"], packed["cells"] = self.scale_K, self.cells_KE
        return packed

    def _round(self, vectors: Any) -> None:
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            block = np.asarray(vectors[rows], np.float32)
            scale = np.abs(block).max(axis=1) / LARGEST
            self.scale_K[rows] = scale
            self.cells_KE[rows] = np.rint(block / np.where(scale == 0, 1, scale)[:, None])
            release(vectors)

    @property
    def shape(self) -> tuple[int, int]:
        """Return K and E."""
        return len(self.cells_KE), int(self.cells_KE.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the stored type; reading gives float32."""
        return np.dtype(np.int8)

    @property
    def nbytes(self) -> int:
        return int(self.scale_K.nbytes + self.cells_KE.nbytes)

    def __len__(self) -> int:
        return len(self.cells_KE)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return the vectors of a row, a slice, or a list or mask of rows."""
        return np.asarray(self.cells_KE[rows] * np.asarray(self.scale_K[rows])[..., None], np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all vectors as float32, with the memory that this needs."""
        return self[:].astype(dtype or np.float32, copy=False)

    def products(self, image_BE: Float32[ndarray, "B E"]) -> tuple[Float32[ndarray, "K B"], Float32[ndarray, "N B"]]:
        """Return the products with images' vectors, and the largest of each :data:`STRETCH` rows (left out: the rest).

        The two 8-bit parts of an image are multiplied as integers. A product is off by about a millionth from the
        product with the float32 image; without VNNI, whose parts are coarser, by four. All images of a row lie
        together, so that sums and gathers along the rows of a bank use whole registers. Mapped rows are not released:
        mapping them again takes as long as the products with one image, and the system can take their pages back.
        """
        import torch

        parts, scale_2B = (torch.from_numpy(array) for array in _halve(image_BE))
        n_images = len(image_BE)
        products_KB = torch.from_numpy(np.empty((len(self), n_images), np.float32))  # NumPy asks for huge pages
        largest_NB = torch.from_numpy(np.empty((len(self) // STRETCH, n_images), np.float32))
        scratch = Scratch()
        scale_K1, cells = torch.from_numpy(self.scale_K)[:, None], torch.from_numpy(self.cells_KE)

        def multiply(rows: slice) -> None:
            some = cells[rows]
            if n_images == 1 and _adds_exactly():  # two products with one row take half as long as one with two
                both = torch.cat([torch._int_mm(part[None], some.T) for part in parts]).T.float()
            else:
                whole = torch.from_numpy(scratch.take(len(some), 2 * n_images, np.int32))
                both = torch.from_numpy(scratch.take(len(some), 2 * n_images))
                both.copy_(torch._int_mm(some, parts.T, out=whole))
            both *= scale_2B
            block = torch.add(both[:, :n_images], both[:, n_images:], out=products_KB[rows])
            block *= scale_K1[rows]
            n_whole = len(block) // STRETCH
            first = rows.start // STRETCH
            stretches = block[: n_whole * STRETCH].view(n_whole, STRETCH, n_images)
            torch.amax(stretches, dim=1, out=largest_NB[first : first + n_whole])

        step = max(STRETCH * 64, _PRODUCTS_AT_ONCE // (2 * n_images) // STRETCH * STRETCH)
        in_threads(multiply, [slice(first, first + step) for first in range(0, len(self), step)])
        return products_KB.numpy(), largest_NB.numpy()


def _halve(image_BE: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the high parts of images above the low ones, ``[2 B, E]``, and the scale of each row ``[2 B]``."""
    largest = LARGEST if _adds_exactly() else LARGEST_WITHOUT_VNNI
    high = np.abs(image_BE).max(axis=1, keepdims=True) / largest
    high[high == 0] = 1
    cells = np.rint(image_BE / high)
    low = high / (2 * largest)
    rest = np.rint((image_BE - cells * high) / low).clip(-largest, largest)
    return np.concatenate([cells, rest]).astype(np.int8), np.concatenate([high, low])[:, 0]


@cache
def _adds_exactly() -> bool:
    """Return whether products of 8-bit integers are exact here, whatever the integers are.

    Without VNNI, oneDNN adds pairs of products of the first factor (plus 128) and the second in 16 bits, which saturate
    in silence. Values of at most 64 in the second factor, which has more than one column, are always exact.
    """
    import torch

    rows = torch.full((64, 64), LARGEST, dtype=torch.int8)
    exact = 64 * LARGEST * LARGEST
    return all(bool((torch._int_mm(some, rows.T) == exact).all()) for some in (rows, rows[:1]))


def release(vectors: Any) -> None:
    """Give the pages of a large memory-mapped array back to the system, which keeps them in its cache."""
    mapped = getattr(vectors.cells_KE if isinstance(vectors, Int8Rows) else vectors, "_mmap", None)
    if mapped is not None and vectors.nbytes > STAYS_MAPPED and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def load_rounded(vectors: NDArray[Any]) -> Int8Rows:
    """Return vectors in 8 bits. Those of a whole memory-mapped file are kept in the cache folder, and mapped again."""
    name = getattr(vectors, "filename", None)
    if name is None or (file := Path(name).stat()).st_size != vectors.offset + vectors.nbytes:  # type: ignore[attr-defined]
        return Int8Rows.of(vectors)
    facts = json.dumps([file.st_size, file.st_mtime_ns])
    folder = cache_dir() / "int8" / hashlib.sha256(str(Path(name).resolve()).encode()).hexdigest()[:32]
    if not (folder / _FACTS_FILE).exists() or (folder / _FACTS_FILE).read_text() != facts:
        try:
            _write_rounded(vectors, folder, facts)
        except (LinnaeaError, OSError) as error:
            announce_uncached(error, "the labels in 8 bits are", "are rounded")
            return Int8Rows.of(vectors)
    return Int8Rows(np.load(folder / _SCALE_FILE), np.load(folder / _CELLS_FILE, mmap_mode="c"))


def _write_rounded(vectors: NDArray[Any], folder: Path, facts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FACTS_FILE).unlink(missing_ok=True)
    with atomic_path(folder / _CELLS_FILE) as partial, atomic_path(folder / _SCALE_FILE) as partial_scale:
        cells = create_array(partial, np.int8, vectors.shape)
        rows = Int8Rows(np.empty(len(vectors), np.float32), cells)
        rows._round(vectors)
        cells.flush()
        with partial_scale.open("wb") as stream:
            write_array(stream, rows.scale_K)
    write_atomically(folder / _FACTS_FILE, facts)


def row_type(width: int) -> np.dtype[Any]:
    """Return the type of a row on disk: its scale, then its values."""
    return np.dtype([("scale", "<f4"), ("cells", "i1", (width,))])
