"""Measure how far a photograph lies from a label, by how far known photographs lie from theirs.

A photograph of something that no label names may still have one label that is likelier than all others. It lies farther
from this label, though, than photographs of the label's taxon do. The distance is Mahalanobis' (Lee et al., "A Simple
Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018): a difference counts
for less along directions in which known photographs differ from their own labels. A few photographs do not show a whole
covariance, so theirs has at most :data:`N_DIRECTIONS` main directions and one variance for all others (Tipping and
Bishop, "Probabilistic Principal Component Analysis", Journal of the Royal Statistical Society B, 1999).
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError

N_DIRECTIONS = 32
PHOTOGRAPHS_PER_DIRECTION = 30
"""The fewest photographs for each direction. Fewer would lie in the directions that were found for them, and all other
photographs would seem far away (docs/log.md)."""
_LEAST_VARIANCE = 1e-9
OTHER_WIDTH = "calibration: belongs to a model of another width; run `linnaea labels calibrate` again"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The scatter of known photographs around their labels."""

    length: float
    """The mean cosine of a photograph and its label: photographs scatter around the label at this length."""
    variances: tuple[float, ...]
    """The variance along each of the directions ``[Q]``, then the mean of those along all others."""
    directions: str
    """Orthogonal unit vectors ``[Q, E]`` as float16 in base64."""

    def __post_init__(self) -> None:
        if len(self.variances) < 1 or not all(0 < variance < np.inf for variance in self.variances):
            raise ValueError("a spread has positive variances")
        if not (np.isfinite(self.length) and np.isfinite(self.axes).all()):
            raise ValueError("a spread has a finite length and finite directions")

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> "Spread":
        """Read what :meth:`to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: the facts are no spread.
        """
        return cls(length=float(facts["length"]), variances=tuple(map(float, facts["variances"])),
                   directions=str(facts["directions"]))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @cached_property
    def axes(self) -> Float64[ndarray, "Q E"]:
        """Return the directions as numbers.

        Raises:
            ValueError: They are damaged.
        """
        n = len(self.variances) - 1
        values = np.frombuffer(base64.b64decode(self.directions, validate=True), "<f2")
        return values.reshape(n, len(values) // max(n, 1)).astype(np.float64)

    def distances(self, image_BE: Float32[ndarray, "B E"], label_BE: Float32[ndarray, "B E"]) -> Float64[ndarray, "B"]:  # noqa: F821
        """Return the logarithm of each image's distance from a label; it does not depend on the other images.

        Raises:
            LinnaeaError: The vectors are of another width.
        """
        if len(self.axes) and self.axes.shape[1] != image_BE.shape[1]:
            raise LinnaeaError(OTHER_WIDTH)
        apart_BE = image_BE.astype(np.float64) - self.length * label_BE.astype(np.float64)
        along_BQ = np.array([self.axes @ apart_E for apart_E in apart_BE]).reshape(len(apart_BE), -1) ** 2
        others_B = np.maximum((apart_BE**2).sum(axis=1) - along_BQ.sum(axis=1), 0)
        square_B = (along_BQ / self.variances[:-1]).sum(axis=1) + others_B / self.variances[-1]
        return np.asarray(np.log(np.maximum(square_B, _LEAST_VARIANCE)) / 2)


def fit_spread(image_NE: Float[ndarray, "N E"], label_NE: Float[ndarray, "N E"]) -> Spread:
    """Return how photographs scatter around the unit vectors of their own labels."""
    images, labels = image_NE.astype(np.float64), label_NE.astype(np.float64)
    length = round(float((images * labels).sum(axis=1).mean()), 6)
    apart_NE = images - length * labels
    variance_E, axis_EE = np.linalg.eigh(apart_NE.T @ apart_NE / len(apart_NE))
    n = min(N_DIRECTIONS, len(image_NE) // PHOTOGRAPHS_PER_DIRECTION, len(variance_E) - 1)
    variances = [*variance_E[::-1][:n], variance_E[: len(variance_E) - n].mean()]
    return Spread(length=length, variances=tuple(_round(max(value, _LEAST_VARIANCE)) for value in variances),
                  directions=_pack(axis_EE[:, ::-1][:, :n].T))  # fmt: skip


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _pack(axis_QE: NDArray[np.float64]) -> str:
    return base64.b64encode(np.ascontiguousarray(axis_QE, "<f2").tobytes()).decode()
