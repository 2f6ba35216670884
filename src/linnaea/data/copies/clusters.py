"""Clusters of linked rows (union-find): copies, and the photographs of one individual, that belong together."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Indices = NDArray[np.signedinteger[Any]]


def connect(n: int, links: Iterable[tuple[Indices, Indices]]) -> Rows:
    """The cluster of each of ``n`` rows, named by its lowest row: the same for any order of the links.

    Args:
        n: number of rows
        links: pairs of equally long arrays of rows; the rows of a pair are in one cluster.
    """
    parent = np.arange(n, dtype=np.int64)
    touched: set[int] = set()
    for ones, others in links:
        apart = ones != others
        for a, b in zip(ones[apart].tolist(), others[apart].tolist(), strict=True):
            low, high = sorted((_root(parent, a), _root(parent, b)))
            parent[high] = low
            touched.update((a, b))
    for row in touched:
        parent[row] = _root(parent, row)
    return parent


def _root(parent: Rows, row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = int(parent[row])
    return row
