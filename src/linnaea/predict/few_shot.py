"""SimpleShot: the nearest class centroid after centring and normalising (arXiv 1911.04623; CL2N)."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def simple_shot(
    support_SE: Float[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    query_QE: Float[ndarray, "Q E"],
    n_classes: int,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """The class of each query: support and queries lose the support's mean and are normalised; the nearest
    centroid (a mean of normalised support, not normalised again) by Euclidean distance.

    Memory is that of one matrix of queries by classes.
    """
    centre = support_SE.mean(axis=0)
    support, query = _unit(support_SE - centre), _unit(query_QE - centre)
    sums = np.zeros((n_classes, support.shape[1]), support.dtype)
    np.add.at(sums, label_S, support)
    counts = np.bincount(label_S, minlength=n_classes)
    centroids = sums / np.maximum(counts, 1)[:, None]
    # |q - c|^2 without |q|^2, which is the same for every class.
    distance = (centroids**2).sum(axis=1)[None, :] - 2 * (query @ centroids.T)
    distance[:, counts == 0] = np.inf
    return np.asarray(distance.argmin(axis=1))


def _unit(vectors: Float[ndarray, "N E"]) -> Float[ndarray, "N E"]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
