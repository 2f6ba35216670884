"""SimpleShot: the nearest class centroid after centring and normalising (arXiv 1911.04623; CL2N)."""

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy import ndarray

MAX_CELLS = 4_000_000
"""Largest block of queries x classes, and of queries x width, in memory at once (32 MB of float64)."""


def simple_shot(
    support_SE: Float[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float[ndarray, "Q E"],
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """The class of each query: support and queries lose the support's mean and are normalised; the nearest
    centroid (a mean of normalised support, not normalised again) by Euclidean distance, the first of equal ones.

    Classes without support are never answered. Computed in float64, so that near ties do not hang on the order of
    sums; beyond the inputs, memory is that of the support and of one block of queries.

    Raises:
        ValueError: there is no support.
    """
    if not len(support_SE):
        raise ValueError("SimpleShot needs at least one support image")
    centre = support_SE.mean(axis=0, dtype=np.float64)
    centroids, counts = _centroids(_unit(support_SE - centre), label_S, n_classes)
    # |q - c|^2 = |q|^2 - 2 qc + |c|^2, and |q|^2 is the same for every class.
    half_square = np.where(counts > 0, (centroids**2).sum(axis=1) / 2, np.inf)
    answer_Q = np.empty(len(query_QE), np.int64)
    step = max(1, MAX_CELLS // max(n_classes, support_SE.shape[1]))
    for start in range(0, len(query_QE), step):
        closeness = _unit(query_QE[start : start + step] - centre) @ centroids.T
        closeness -= half_square
        answer_Q[start : start + step] = closeness.argmax(axis=1)
    return answer_Q


def _centroids(
    support_SE: Float64[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    n_classes: int,
) -> tuple[Float64[ndarray, "K E"], Int[ndarray, "K"]]:  # noqa: F821
    """Mean of each class's support, zero where there is none, and the number of images in it."""
    counts = np.bincount(label_S, minlength=n_classes)
    order = np.argsort(label_S, kind="stable")
    there = np.flatnonzero(counts)
    centroids = np.zeros((n_classes, support_SE.shape[1]))
    starts = (np.cumsum(counts) - counts)[there]
    centroids[there] = np.add.reduceat(support_SE[order], starts, axis=0) / counts[there, None]
    return centroids, counts


def _unit(vectors: Float64[ndarray, "N E"]) -> Float64[ndarray, "N E"]:
    norms = np.sqrt(np.einsum("ne,ne->n", vectors, vectors))
    vectors /= np.maximum(norms, 1e-12)[:, None]
    return vectors
