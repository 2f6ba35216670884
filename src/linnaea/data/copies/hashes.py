"""Perceptual hashes of photographs: PDQ, and PDQ of crops and mirrorings of one picture for almost nothing.

PDQ (Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019) is linear up to its
last step: luma, two box filters, decimation to 64 x 64 and the 16 x 16 lowest DCT coefficients without the constant.
On a picture brought to 256 x 256 all of it is ``A L A'`` with one fixed ``A`` of 16 x 256; a bit says whether a
coefficient lies above the median. A crop scaled back to 256 x 256 is one more fixed matrix, so nine row operators and
nine column operators give the hashes of 81 crops with one matrix product; a mirroring is one more operator.
``tests/data/test_copies_search.py`` compares with the package pdqhash bit for bit.

A hash is four ``uint64``; hashes of N pictures are ``[N, 4]``.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from linnaea.data.images import Picture

Hashes = NDArray[np.uint64]
"""``[N, 4]``, 256 bits each, 128 of them set."""

Floats = NDArray[np.floating[Any]]

SIDE = 256
N_BITS = 256
MIN_QUALITY = 50
"""PDQ's own advice: below, the picture has too little contrast for its hash to mean anything."""

CROP_STEPS = (0.0, 0.025, 0.05)
"""Shares cut off on each of the four sides: 3^4 = 81 variants."""


@dataclass(frozen=True, kw_only=True)
class PerceptualHash:
    bits: NDArray[np.uint64]
    """``[4]``."""
    quality: int
    """0 to 100, by the contrast of the picture."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A crop (shares cut off each side) and a mirroring of a picture."""

    top: float
    bottom: float
    left: float
    right: float
    symmetry: str = ""
    """Empty, or one of ``SYMMETRIES``."""

    def __str__(self) -> str:
        cut = "/".join(f"{100 * share:g}" for share in (self.top, self.bottom, self.left, self.right))
        return f"cut {cut}% {self.symmetry}".rstrip()


# (rows flipped, columns flipped, then transposed). PDQ's own dihedral hashes flip signs of coefficients instead; its
# filter is not symmetric (it sees a picture 1.5 of 256 pixels off centre), and that costs up to 32 bits.
_SYMMETRIES = {
    "": (False, False, False),
    "mirrored": (False, True, False),
    "upside down": (True, False, False),
    "turned 180": (True, True, False),
    "turned 90": (True, False, True),
    "turned 270": (False, True, True),
    "transposed": (False, False, True),
    "transversed": (True, True, True),
}
SYMMETRIES = tuple(word for word in _SYMMETRIES if word)


def perceptual_hash(picture: Picture) -> PerceptualHash:
    """PDQ of a picture ``[H, W, 3]`` brought to 256 x 256 (its aspect ratio is not kept: copies may have lost it)."""
    luma = _luma(picture)
    coefficients = _operator() @ luma @ _operator().T
    return PerceptualHash(bits=_pack(coefficients[None])[0], quality=_quality(luma))


def variants(steps: tuple[float, ...] = CROP_STEPS, *, symmetries: bool = False) -> list[Variant]:
    """The variants of :func:`variant_hashes`, in its order; the first is the picture as it is."""
    crops = [(a, b) for a, b in product(steps, steps)]
    words = ("", *SYMMETRIES) if symmetries else ("",)
    return [
        Variant(top=top, bottom=bottom, left=left, right=right, symmetry=word)
        for word in words
        for top, bottom in crops
        for left, right in crops
    ]


def variant_hashes(
    picture: Picture, steps: tuple[float, ...] = CROP_STEPS, *, symmetries: bool = False
) -> tuple[Hashes, int]:
    """Hashes ``[V, 4]`` of all :func:`variants` of one picture, and the quality of the picture."""
    luma = _luma(picture)
    straight, flipped = _crop_operators(steps)
    made: list[Floats] = []
    for word in ("", *SYMMETRIES) if symmetries else ("",):
        flips_rows, flips_columns, transposes = _SYMMETRIES[word]
        coefficients = _all_products(flipped if flips_rows else straight, luma, flipped if flips_columns else straight)
        made.append(coefficients.swapaxes(1, 2) if transposes else coefficients)
    return _pack(np.concatenate(made)), _quality(luma)


def pixel_sha256(picture: Picture) -> str:
    """SHA-256 of the decoded pixels and their shape: equal for copies that differ only in metadata or container."""
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def hex_of(bits: NDArray[np.uint64]) -> str:
    """A hash as 64 hex digits, as PDQ's own tools write it."""
    return bits.astype(">u8").tobytes().hex()


def bits_of(text: str) -> NDArray[np.uint64]:
    """The hash of 64 hex digits (see :func:`hex_of`)."""
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)


def _luma(picture: Picture) -> Floats:
    height, width = picture.shape[:2]
    # Area averages where it shrinks; where it grows INTER_AREA would repeat pixels, so linear.
    how = cv2.INTER_AREA if height >= SIDE and width >= SIDE else cv2.INTER_LINEAR
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=how).astype(np.float32)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.float32)


@cache
def _blur_and_decimate() -> Floats:
    """``[64, 256]``: twice the mean of two neighbours, then every fourth sample."""
    box = (np.eye(SIDE) + np.eye(SIDE, k=1)) / 2
    box[-1, -1] = 1.0
    return (box @ box)[2::4].astype(np.float32)


@cache
def _operator() -> Floats:
    """``A``, ``[16, 256]``: blur, decimate, DCT coefficients 1 to 16."""
    k, j = np.arange(1, 17)[:, None], np.arange(64)[None]
    dct = np.sqrt(2 / 64) * np.cos(np.pi / 128 * k * (2 * j + 1))
    return np.asarray(dct @ _blur_and_decimate(), dtype=np.float32)


@cache
def _crop_operators(steps: tuple[float, ...]) -> tuple[Floats, Floats]:
    """``A`` after cutting (a, b) off the two ends and scaling back, for every pair: ``[len(steps)**2, 16, 256]``;
    straight, and with the ends swapped after the cut."""
    crops = [_crop_and_scale(a, b) for a, b in product(steps, steps)]
    return np.stack([_operator() @ crop for crop in crops]), np.stack([_operator() @ crop[::-1] for crop in crops])


def _all_products(rows: Floats, luma: Floats, columns: Floats) -> Floats:
    """``rows[i] @ luma @ columns[j].T`` for all i, j: ``[n * n, 16, 16]``, in one matrix product."""
    n = len(rows)
    flat = rows.reshape(n * 16, SIDE) @ luma @ columns.reshape(n * 16, SIDE).T
    return flat.reshape(n, 16, n, 16).swapaxes(1, 2).reshape(n * n, 16, 16)


def _crop_and_scale(a: float, b: float) -> Floats:
    """``[256, 256]``: linear interpolation at the centres of 256 equal cells of [a, 1 - b]."""
    at = (a + (np.arange(SIDE) + 0.5) / SIDE * (1 - a - b)) * SIDE - 0.5
    at = at.clip(0, SIDE - 1)
    low = np.minimum(at.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
    matrix[np.arange(SIDE), low] = 1 - (at - low)
    matrix[np.arange(SIDE), low + 1] += at - low
    return matrix


def _pack(coefficients: Floats) -> Hashes:
    """``[V, 16, 16]`` coefficients to ``[V, 4]`` hashes: a bit where a coefficient exceeds the (lower) median."""
    flat = coefficients.reshape(len(coefficients), N_BITS)
    median = np.partition(flat, N_BITS // 2 - 1, axis=1)[:, N_BITS // 2 - 1, None]
    packed = np.packbits((flat > median)[:, ::-1], axis=1)  # PDQ writes the highest coefficient first
    return packed.view(">u8").astype(np.uint64)


def _quality(luma: Floats) -> int:
    """PDQ's quality: the sum of the gradients of the 64 x 64 picture, in whole per cent steps, over 90."""
    small = _blur_and_decimate() @ luma @ _blur_and_decimate().T
    steps = (np.abs(np.diff(small, axis=axis)) * (100 / 255) for axis in (0, 1))
    return min(int(sum(int(np.trunc(step).sum()) for step in steps) / 90), 100)
